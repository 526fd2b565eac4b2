"""Unsafe and unreadable settings stop the start, with one clear line each and no secret in it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import ConfigurationError
from app.settings import Environment, Settings, load_settings, origin_of

JWT_SECRET = "a secret of the auth service, 32+"
PRODUCTION: dict[str, Any] = {
    "environment": "production",
    "mongodb_url": "mongodb://db.internal:27017",
    "auth_mongodb_url": "mongodb://db.internal:27017",
    "stripe_secret_key": "sk_live_51abc",
    "stripe_publishable_key": "pk_live_51abc",
    "stripe_webhook_secret": "whsec_abc",
    "internal_service_key": "k" * 16,
}


def settings(**values: Any) -> Settings:
    return load_settings(_env_file=None, **values)


def problems(**values: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as stop:
        settings(**values)
    for line in stop.value.problems:
        assert line
        assert "\n" not in line
    return stop.value.problems


def problem(**values: Any) -> str:
    [line] = problems(**values)
    return line


def test_defaults_start_in_development() -> None:
    found = settings()
    assert found.environment is Environment.DEVELOPMENT
    assert found.port == 8004
    assert found.mongodb_db_name == "audiobooker_payment"
    assert found.auth_mongodb_db_name == "audiobooker_auth"
    assert found.mongodb_url.get_secret_value() == "mongodb://localhost:27017"
    assert found.payment_success_url == "http://localhost:5173/checkout/success"
    assert found.payment_cancel_url == "http://localhost:5173/checkout/cancel"
    assert (found.credit_value_cents, found.reconcile_after_seconds) == (100, 60)
    assert found.is_open
    assert found.mode == "test"
    assert not found.allow_user_refunds


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().port = 1  # type: ignore[misc]


def test_values_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "payment.env"
    file.write_text(
        "STRIPE_SECRET_KEY=sk_test_abc\nCORS_ORIGINS=https://a.example, https://b.example\n"
        'ALLOWED_REDIRECT_ORIGINS=["https://c.example"]\nSOMETHING_ELSE=1\n'
    )
    found = load_settings(_env_file=file)
    assert found.stripe_secret_key.get_secret_value() == "sk_test_abc"
    assert found.cors_origins == ("https://a.example", "https://b.example")
    assert found.allowed_redirect_origins == ("https://c.example",)


def test_secrets_are_not_shown() -> None:
    secrets = {
        "stripe_secret_key": "sk_test_swordfish",
        "stripe_webhook_secret": "whsec_swordfish",
        "mongodb_url": "mongodb://root:swordfish@db",
        "auth_mongodb_url": "mongodb://root:swordfish@db",
        "internal_service_key": "swordfish-swordfish",
        "auth_jwt_secret": "swordfish" * 4,
    }
    found = settings(**secrets)
    assert "swordfish" not in repr(found)
    assert "swordfish" not in str(found)
    assert "swordfish" not in found.model_dump_json()


@pytest.mark.parametrize(
    "values",
    [
        {"stripe_secret_key": "swordfish"},
        {"stripe_publishable_key": "sk_test_swordfish"},
        {"stripe_webhook_secret": "swordfish"},
        {"mongodb_url": "postgres://root:swordfish@db"},
        {"mongodb_url": "mongodb://root:swordfish@[db"},
        {"auth_jwt_secret": "swordfish"},
        {"internal_service_key": "swordfish"},
        {"cors_origins": "https://root:swordfish@shop.example"},
        {"stripe_api_base": "https://root:swordfish@stripe.example"},
        {"port": "swordfish"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_problem_never_repeats_what_could_be_a_secret(values: dict[str, Any]) -> None:
    assert "swordfish" not in problem(**values)


def test_each_mistake_has_its_own_line() -> None:
    lines = problems(port="x", log_level="LOUD", environment="moon")
    assert [line.split()[0] for line in lines] == ["ENVIRONMENT", "PORT", "LOG_LEVEL"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((v, "must be a number") for v in ("much", "0", "-1", "1.5", "5000,", "idr:", "1,2")),
        (100_000_000, "is above 99999999, the most that Stripe charges in most currencies"),
        ("idr:1000000000000", "is above 999999999999, the most that Stripe charges in idr"),
        ("5000,xxx:1", "names 'xxx', in which Stripe cannot charge"),
    ],
)
def test_maximum_that_cannot_be_read_or_is_above_stripes_stops_the_start(
    value: Any, told: str
) -> None:
    assert problem(max_amount_cents=value).startswith(f"MAX_AMOUNT_CENTS {told}")


def test_space_around_a_value_does_not_count() -> None:
    found = settings(stripe_secret_key=" sk_test_abc\n", auth_jwt_secret=JWT_SECRET + "\n")
    assert found.stripe_secret_key.get_secret_value() == "sk_test_abc"
    assert found.auth_jwt_secret.get_secret_value() == JWT_SECRET


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80/", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("HTTPS://Shop.Example:8443", "https://shop.example:8443"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        (" http://localhost:5173 ", "http://localhost:5173"),
    ],
)
def test_origin_is_normalised(written: str, read: str) -> None:
    for value in (written, f'["{written}"]', [written], f"{written},"):
        found = settings(cors_origins=value, allowed_redirect_origins=value)
        assert found.cors_origins == (read,)
        assert found.allowed_redirect_origins == (read,)


@pytest.mark.parametrize(
    "bad",
    [
        "*",
        "null",
        "shop.example",
        "//shop.example",
        "ftp://shop.example",
        "javascript:alert(1)",
        "https://",
        "https://shop.example/path",
        "https://shop.example//",
        "https://shop.example?x",
        "https://shop.example#x",
        "https://user@shop.example",
        "https://shop.example:port",
        "https://shop.example:99999",
    ],
)
def test_what_is_not_an_origin_is_refused(bad: str) -> None:
    for name in ("cors_origins", "allowed_redirect_origins"):
        for value in (bad, f'["{bad}"]', f"https://good.example,{bad}"):
            line = problem(**{name: value})
            assert line.startswith(name.upper())
            assert "is not an origin" in line


@pytest.mark.parametrize("value", ['["https://a.example"', "[", "['https://a.example']"])
def test_unreadable_json_array_is_told(value: str) -> None:
    assert problem(cors_origins=value) == "CORS_ORIGINS is not a readable JSON array"


@pytest.mark.parametrize("value", ["[1]", "[null]", '[["https://a.example"]]', "[{}]"])
def test_json_array_of_anything_but_text_is_refused(value: str) -> None:
    assert problem(cors_origins=value).startswith("CORS_ORIGINS")


def test_no_origins_at_all_is_a_choice() -> None:
    for value in ("", " ", "[]", ","):
        assert settings(cors_origins=value).cors_origins == ()


def test_redirects_may_go_to_the_configured_pages_and_the_frontend() -> None:
    found = settings(
        payment_success_url="https://Shop.example:443/done?x=1",
        payment_cancel_url="https://cart.example/back",
        cors_origins="https://app.example",
    )
    assert found.redirect_origins == {
        "https://shop.example",
        "https://cart.example",
        "https://app.example",
    }


def test_named_redirect_origins_replace_the_others() -> None:
    found = settings(allowed_redirect_origins="https://only.example")
    assert found.redirect_origins == {"https://only.example"}


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://shop.example/a?b#c", "https://shop.example"),
        ("https://Shop.Example:443", "https://shop.example"),
        ("https://shop.example:8443/", "https://shop.example:8443"),
        ("http://[::1]:5173/x", "http://[::1]:5173"),
        ("https://shop.example@evil.example/", None),
        ("https://@evil.example/", None),
        ("https://evil.example\\@shop.example/", None),
        ("//shop.example/", None),
        ("/path", None),
        ("", None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("https://[shop", None),
        ("https://shop.example:99999/", None),
    ],
)
def test_origin_of_a_url(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["https://shop.example.evil.example/", "https://shop.example\\.evil.example/"]
)
def test_lookalike_of_an_origin_is_another_one(url: str) -> None:
    assert origin_of(url) != "https://shop.example"


@pytest.mark.parametrize("name", ["payment_success_url", "payment_cancel_url", "stripe_api_base"])
def test_page_must_be_an_http_url(name: str) -> None:
    for bad in ("shop.example/done", "javascript:alert(1)", "ftp://shop.example", "https://"):
        assert problem(**{name: bad}) == f"{name.upper()} must be an http:// or https:// URL"


def test_page_may_not_be_empty_but_stripes_address_may() -> None:
    assert settings(stripe_api_base="").stripe_api_base == ""
    for name in ("payment_success_url", "payment_cancel_url"):
        assert problem(**{name: ""}).startswith(name.upper())


def test_stripes_address_has_no_closing_slash() -> None:
    assert settings(stripe_api_base="http://localhost:12111/").stripe_api_base == (
        "http://localhost:12111"
    )


@pytest.mark.parametrize("name", ["mongodb_url", "auth_mongodb_url"])
def test_database_url_must_be_mongodb(name: str) -> None:
    for good in ("mongodb://a,b/x?y=1", "mongodb+srv://a.example", "mongomock://"):
        settings(**{name: good})
    for bad in ("", "localhost:27017", "http://localhost", "mongodb:/x"):
        assert problem(**{name: bad}).startswith(f"{name.upper()} must start with")
    assert problem(**{name: "mongodb://[db"}) == f"{name.upper()} is not a readable URL"


def test_embedded_database_is_told_apart() -> None:
    assert settings(mongodb_url="mongomock://").uses_embedded_database
    assert settings(auth_mongodb_url="mongomock://x").uses_embedded_database
    assert not settings().uses_embedded_database


@pytest.mark.parametrize("name", ["staging", "shop-2.eu_west", "a", "a" * 64, ""])
def test_deployment_name_may_be_written_into_any_metadata(name: str) -> None:
    assert settings(deployment_name=name).deployment_name == name


@pytest.mark.parametrize("name", ["two words", "a" * 65, "caf\u00e9", "a/b", "a\nb"])
def test_deployment_name_that_could_be_misread_is_refused(name: str) -> None:
    assert problem(deployment_name=name).startswith("DEPLOYMENT_NAME must have 1 to 64 characters")


@pytest.mark.parametrize("field", ["a.b", "$inc", ""])
def test_credits_field_is_one_plain_name(field: str) -> None:
    assert problem(auth_credits_field=field).startswith("AUTH_CREDITS_FIELD")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("credit_value_cents", 0),
        ("reconcile_interval_seconds", -1),
        ("reconcile_after_seconds", -1),
        ("stripe_timeout_seconds", 0),
        ("max_body_bytes", 10),
        ("log_level", "LOUD"),
    ],
)
def test_number_out_of_range_names_its_setting(name: str, value: object) -> None:
    assert problem(**{name: value}).startswith(f"{name.upper()} ")


def test_zero_switches_the_reconciler_off() -> None:
    assert settings(reconcile_interval_seconds=0).reconcile_interval_seconds == 0


@pytest.mark.parametrize("prefix", ["sk", "rk"])
def test_restricted_keys_count_as_secret_keys(prefix: str) -> None:
    assert settings(stripe_secret_key=f"{prefix}_test_abc").mode == "test"
    live = settings(**PRODUCTION | {"stripe_secret_key": f"{prefix}_live_abc"})
    assert live.mode == "live"


def test_mode_is_told_by_either_key() -> None:
    assert settings(stripe_publishable_key="pk_test_abc").mode == "test"
    keys = {"stripe_secret_key": "rk_live_abc", "stripe_publishable_key": "pk_live_a"}
    values = PRODUCTION | keys
    assert settings(**values).mode == "live"


def test_key_that_is_no_stripe_key_is_refused() -> None:
    for key in ("abc", "pk_test_abc", "sk_abc", "sk_prod_abc"):
        assert problem(stripe_secret_key=key).startswith("STRIPE_SECRET_KEY must start with")
    assert problem(stripe_publishable_key="sk_test_abc").startswith("STRIPE_PUBLISHABLE_KEY must")


def test_live_key_is_refused_in_development() -> None:
    for key in (
        {"stripe_secret_key": "sk_live_abc"},
        {"stripe_secret_key": "rk_live_abc"},
        {"stripe_publishable_key": "pk_live_abc"},
    ):
        assert "live Stripe key is refused" in problem(**key)


def test_live_key_is_refused_in_the_test_environment() -> None:
    lines = problems(**PRODUCTION | {"environment": "test"})
    assert any("live Stripe key is refused" in line for line in lines)


def test_keys_of_different_modes_are_refused() -> None:
    for secret, publishable in (("sk_test_a", "pk_live_a"), ("rk_live_a", "pk_test_a")):
        lines = problems(stripe_secret_key=secret, stripe_publishable_key=publishable)
        assert any("different modes" in line for line in lines)


@pytest.mark.parametrize(
    "values",
    [
        {"stripe_secret_key": "sk_test_..."},
        {"stripe_publishable_key": "pk_test_your_key"},
        {"stripe_webhook_secret": "whsec_..."},
    ],
)
def test_sample_value_is_refused(values: dict[str, str]) -> None:
    assert "sample value" in problem(**values)


def test_several_webhook_secrets_are_read_while_one_is_rolled() -> None:
    found = settings(stripe_webhook_secret=" whsec_a, whsec_b ,")
    assert found.webhook_secrets == ("whsec_a", "whsec_b")
    assert settings().webhook_secrets == ()
    assert "whsec_" in problem(stripe_webhook_secret="whsec_a,b")


def test_weak_or_doubled_credentials_are_refused() -> None:
    assert "32 characters" in problem(auth_jwt_secret="x" * 31)
    assert "16 characters" in problem(internal_service_key="x" * 15)
    assert "not both" in problem(auth_jwt_secret=JWT_SECRET, auth_jwt_public_key="PEM")


def test_production_starts_with_all_it_needs() -> None:
    found = settings(**PRODUCTION)
    assert not found.is_open
    assert found.mode == "live"
    assert not found.serves_docs


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("internal_service_key", "no caller could be verified"),
        ("stripe_webhook_secret", "STRIPE_WEBHOOK_SECRET is empty"),
        ("stripe_secret_key", "STRIPE_SECRET_KEY is empty"),
        ("stripe_publishable_key", "STRIPE_PUBLISHABLE_KEY is empty"),
    ],
)
def test_production_needs_each_of_them(missing: str, told: str) -> None:
    assert told in problem(**PRODUCTION | {missing: ""})


def test_production_without_anything_is_told_everything() -> None:
    lines = problems(environment="production")
    assert len(lines) == len(set(lines)) == 4


def test_any_credential_check_will_do() -> None:
    for check in ({"auth_jwt_secret": JWT_SECRET}, {"auth_jwt_public_key": "PEM"}):
        assert settings(**PRODUCTION | {"internal_service_key": ""} | check).verifies_credentials


@pytest.mark.parametrize("name", ["mongodb_url", "auth_mongodb_url"])
def test_embedded_database_is_refused_in_production(name: str) -> None:
    assert "mongomock://" in problem(**PRODUCTION | {name: "mongomock://"})


@pytest.mark.parametrize("environment", ["test", "staging"])
def test_other_environments_are_closed_and_need_a_webhook_secret(environment: str) -> None:
    assert "no caller could be verified" in problem(environment=environment)
    keyed = {"environment": environment, "internal_service_key": "k" * 16}
    assert not settings(**keyed).is_open
    assert "STRIPE_WEBHOOK_SECRET" in problem(**keyed, stripe_secret_key="sk_test_abc")


def test_docs_are_off_in_production_unless_asked_for() -> None:
    assert settings(**PRODUCTION, docs_enabled=True).serves_docs
    assert settings().serves_docs
    assert not settings(docs_enabled=False).serves_docs
