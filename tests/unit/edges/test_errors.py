"""The exception tree says the same in its docstring, its classes and its answers."""

import json
import re
from http.client import responses as status_phrases

import pytest

from app import errors
from app.errors import ConfigurationError, PaymentServiceError, StripeFailed, ValidationFailed
from app.problems import problem_of


def every(base: type[PaymentServiceError]) -> list[type[PaymentServiceError]]:
    return [base, *(found for child in base.__subclasses__() for found in every(child))]


ERRORS = sorted({e for e in every(PaymentServiceError) if e.__module__ == "app.errors"}, key=str)


def test_each_code_stands_for_one_title() -> None:
    titles: dict[str, set[str]] = {}
    for error in ERRORS:
        titles.setdefault(error.code, set()).add(error.title)
    shared = {code for code, found in titles.items() if len(found) > 1}
    # Both mean that Stripe failed; they differ in whether the request was executed.
    assert shared <= {"stripe_error"}


def test_two_classes_share_a_code_only_where_stripe_failed() -> None:
    codes = [error.code for error in ERRORS]
    assert {code for code in codes if codes.count(code) > 1} <= {"stripe_error"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_class_has_a_code_a_title_and_an_error_status(error: type[PaymentServiceError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    assert error.title == error.title.strip().rstrip(".")
    assert 400 <= error.status < 600
    assert error.status in status_phrases
    assert error is PaymentServiceError or "title" in vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_docstring_draws_the_class(error: type[PaymentServiceError]) -> None:
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__ or "")


def test_docstring_draws_nothing_that_is_gone() -> None:
    drawing = (errors.__doc__ or "").split("\n\n")[1]
    drawn = set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b|\b(?:Conflict|Forbidden)\b", drawing))
    assert drawn <= {error.__name__ for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_class_becomes_a_problem_of_its_status_and_code(
    error: type[PaymentServiceError],
) -> None:
    response = problem_of(error("A sentence.", retry_after=2, some_fact=1))
    body = json.loads(bytes(response.body))
    assert response.status_code == body["status"] == error.status
    assert (body["code"], body["title"], body["detail"]) == (error.code, error.title, "A sentence.")
    assert body["some_fact"] == 1
    assert response.headers["Retry-After"] == "2"


def test_facts_that_are_not_known_are_left_out() -> None:
    assert PaymentServiceError("x", decline_code=None, remaining=0).facts == {"remaining": 0}


def test_one_wrong_field_is_told_in_detail_and_list() -> None:
    error = ValidationFailed.of_field("items.0.title", "This is too long")
    assert error.detail == "items.0.title: This is too long."
    assert error.facts == {"errors": [{"field": "items.0.title", "message": "This is too long"}]}


def test_failures_of_dependencies_are_told_apart_from_refusals() -> None:
    failures = set(every(errors.DependencyFailure))
    for error in ERRORS:
        assert (error.status > 500) is (error in failures)
    assert StripeFailed in failures


def test_configuration_error_keeps_one_line_for_each_mistake() -> None:
    error = ConfigurationError(["A is wrong", "B is missing"])
    assert error.problems == ["A is wrong", "B is missing"]
    assert str(error) == "A is wrong; B is missing"
