"""What Prometheus is told, and how few series it takes."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import CONTENT_TYPE, STRIPE_EVENT_TYPES, Metrics


def samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Series by name, then by the values of their labels in alphabetical order of the labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3", stripe_mode="live")


def test_two_applications_in_a_process_count_apart(metrics: Metrics) -> None:
    other = Metrics(version="1.2.3")
    metrics.count_refund("succeeded")
    assert samples(metrics)["refunds_total"] == {("succeeded",): 1}
    assert "refunds_total" not in samples(other)


def test_exposition_is_prometheus_text(metrics: Metrics) -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    assert metrics.render().endswith(b"\n")


def test_counters_have_no_created_series(metrics: Metrics) -> None:
    metrics.count_refund("succeeded")
    metrics.observe_stripe_request("refunds.create", "ok", 0.2)
    assert b"_created" not in metrics.render()


def test_requests_are_counted_and_timed(metrics: Metrics) -> None:
    for status in (200, 200, 404):
        metrics.request_started()
        metrics.request_finished("GET", "/payment/{payment_id}", status, 0.03)
    found = samples(metrics)
    route = "/payment/{payment_id}"
    assert found["http_requests_total"] == {("GET", route, "200"): 2, ("GET", route, "404"): 1}
    buckets = found["http_request_duration_seconds_bucket"]
    assert (buckets["0.025", "GET", route], buckets["0.05", "GET", route]) == (0, 3)
    assert found["http_request_duration_seconds_count"] == {("GET", route): 3}
    assert found["http_requests_in_flight"] == {(): 0}


def test_business_events_are_counted(metrics: Metrics) -> None:
    metrics.observe_stripe_request("payment_intents.create", "ok", 0.3)
    metrics.observe_stripe_request("payment_intents.create", "timeout", 20)
    metrics.count_payment("card", "succeeded")
    metrics.count_payment_held_for_review("amount_mismatch")
    metrics.count_refund("pending")
    metrics.count_reconciler_item("payment", "completed")
    found = samples(metrics)
    operation = "payment_intents.create"
    assert found["stripe_requests_total"] == {(operation, "ok"): 1, (operation, "timeout"): 1}
    assert found["stripe_request_duration_seconds_count"] == {(operation,): 2}
    assert found["payments_total"] == {("card", "succeeded"): 1}
    assert found["payments_held_for_review_total"] == {("amount_mismatch",): 1}
    assert found["refunds_total"] == {("pending",): 1}
    assert found["reconciler_items_total"] == {("payment", "completed"): 1}


def test_only_a_successful_run_moves_the_time_of_the_last_success(metrics: Metrics) -> None:
    name = "reconciler_last_success_timestamp_seconds"
    metrics.count_reconciler_run("failed")
    assert samples(metrics)[name] == {(): 0}
    before = time.time()
    metrics.count_reconciler_run("succeeded")
    found = samples(metrics)
    assert before <= found[name][()] <= time.time()
    assert found["reconciler_runs_total"] == {("failed",): 1, ("succeeded",): 1}


def test_unknown_event_types_share_one_series(metrics: Metrics) -> None:
    metrics.count_webhook_event("payment_intent.succeeded", "processed")
    metrics.count_webhook_event("invented.by.a.caller", "ignored")
    metrics.count_webhook_event("also.invented", "ignored")
    assert samples(metrics)["webhook_events_total"] == {
        ("processed", "payment_intent.succeeded"): 1,
        ("ignored", "other"): 2,
    }


def test_known_event_types_can_be_chosen() -> None:
    metrics = Metrics(version="1", event_types=["a.b"])
    metrics.count_webhook_event("a.b", "processed")
    metrics.count_webhook_event("charge.refunded", "processed")
    assert samples(metrics)["webhook_events_total"] == {
        ("processed", "a.b"): 1,
        ("processed", "other"): 1,
    }
    assert "charge.refunded" in STRIPE_EVENT_TYPES


def test_build_is_told(metrics: Metrics) -> None:
    [(labels, value)] = samples(metrics)["payment_service_build_info"].items()
    assert "1.2.3" in labels
    assert "live" in labels
    assert value == 1
