"""Prometheus metrics, in a registry of their own for each application."""

import platform
from collections.abc import Collection
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

# Every Prometheus reads it, and our names need nothing newer.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"

# Up to the time after which a caller of a payment API has given up; Stripe itself takes 0.2 to 3 s.
_DURATION_BUCKETS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    30.0,
)

# https://docs.stripe.com/api/events/types: what an account that sells books may send us.
STRIPE_EVENT_TYPES = frozenset(
    {
        "charge.dispute.closed",
        "charge.dispute.created",
        "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.failed",
        "charge.refund.updated",
        "charge.refunded",
        "charge.succeeded",
        "charge.updated",
        "checkout.session.async_payment_failed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "checkout.session.expired",
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.created",
        "payment_intent.partially_funded",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
        "radar.early_fraud_warning.created",
        "radar.early_fraud_warning.updated",
        "refund.created",
        "refund.failed",
        "refund.updated",
    }
)


class Metrics:
    """Every label takes few values: an id or a caller's text would grow the series for ever.

    Durations are in seconds. Event types outside ``event_types`` count as ``other``.
    """

    def __init__(
        self,
        *,
        version: str,
        stripe_mode: str = "test",
        event_types: Collection[str] = STRIPE_EVENT_TYPES,
    ) -> None:
        # A "_created" series beside every counter doubles the scrape and nothing reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # without types there
        self._event_types = frozenset(event_types)
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        self._http_requests = Counter(
            "http_requests_total",
            "Requests answered; 499 is a caller that went away",
            ["method", "route", "status"],
            registry=registry,
        )
        self._http_duration = Histogram(
            "http_request_duration_seconds",
            "From the request's first byte to the end of its handling",
            ["method", "route"],
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self._http_in_flight = Gauge(
            "http_requests_in_flight", "Requests being handled", registry=registry
        )
        # labels() takes a lock and builds a tuple of strings; a request needs it only once.
        self._http_counters: dict[tuple[str, str, int], Counter] = {}
        self._http_histograms: dict[tuple[str, str], Histogram] = {}

        self._stripe_requests = Counter(
            "stripe_requests_total",
            "Requests to Stripe",
            ["operation", "outcome"],
            registry=registry,
        )
        self._stripe_duration = Histogram(
            "stripe_request_duration_seconds",
            "Requests to Stripe, retries of the SDK included",
            ["operation"],
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self._payments = Counter(
            "payments_total",
            "Payments that came into a status",
            ["payment_method", "status"],
            registry=registry,
        )
        self._held_for_review = Counter(
            "payments_held_for_review_total",
            "Payments that a person has to look at",
            ["reason"],
            registry=registry,
        )
        self._refunds = Counter(
            "refunds_total", "Refunds that came into a status", ["status"], registry=registry
        )
        self._webhook_events = Counter(
            "webhook_events_total", "Webhook deliveries", ["type", "result"], registry=registry
        )
        self._reconciler_runs = Counter(
            "reconciler_runs_total", "Runs of the reconciler", ["outcome"], registry=registry
        )
        self._reconciler_items = Counter(
            "reconciler_items_total",
            "Unfinished work that the reconciler took up",
            ["kind", "outcome"],
            registry=registry,
        )
        self._reconciler_last_success = Gauge(
            "reconciler_last_success_timestamp_seconds",
            "When the reconciler last ended without a failure; 0 is never",
            registry=registry,
        )
        Gauge(
            "payment_service_build_info",
            "Always 1; the labels say what is running",
            ["version", "python", "stripe_mode"],
            registry=registry,
        ).labels(version, platform.python_version(), stripe_mode).set(1)

    def request_started(self) -> None:
        self._http_in_flight.inc()

    def request_finished(self, method: str, route: str, status: int, seconds: float) -> None:
        """``route`` is the template (``/payment/{payment_id}``), never the path."""
        self._http_in_flight.dec()
        method = method if method in HTTP_METHODS else OTHER
        counter = self._http_counters.get((method, route, status))
        if counter is None:
            counter = self._http_requests.labels(method, route, str(status))
            self._http_counters[method, route, status] = counter
        counter.inc()
        histogram = self._http_histograms.get((method, route))
        if histogram is None:
            histogram = self._http_duration.labels(method, route)
            self._http_histograms[method, route] = histogram
        histogram.observe(seconds)

    def observe_stripe_request(self, operation: str, outcome: str, seconds: float) -> None:
        self._stripe_requests.labels(operation, outcome).inc()
        self._stripe_duration.labels(operation).observe(seconds)

    def count_payment(self, payment_method: str, status: str) -> None:
        self._payments.labels(payment_method, status).inc()

    def count_payment_held_for_review(self, reason: str) -> None:
        self._held_for_review.labels(reason).inc()

    def count_refund(self, status: str) -> None:
        self._refunds.labels(status).inc()

    def count_webhook_event(self, event_type: str, result: str) -> None:
        known = event_type if event_type in self._event_types else OTHER
        self._webhook_events.labels(known, result).inc()

    def count_reconciler_run(self, outcome: Literal["succeeded", "failed"]) -> None:
        self._reconciler_runs.labels(outcome).inc()
        if outcome == "succeeded":
            self._reconciler_last_success.set_to_current_time()

    def count_reconciler_item(self, kind: str, outcome: str) -> None:
        self._reconciler_items.labels(kind, outcome).inc()

    def render(self) -> bytes:
        """The exposition; its media type is ``CONTENT_TYPE``."""
        return generate_latest(self._registry)
