"""Signed delivery of events, with retries (https://docs.stripe.com/webhooks)."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from stripe_sandbox.core.api_objects import StripeObject, build
from stripe_sandbox.core.config import WebhookEndpointConfig
from stripe_sandbox.core.spread import seeded
from stripe_sandbox.core.store import Collection, Record
from stripe_sandbox.objects.resource import Account
from stripe_sandbox.trouble.webhook_faults import WebhookFault, WebhookFaultKind, WebhookFaultPlan

logger = logging.getLogger("stripe_sandbox.webhooks")

_KEPT_OF_AN_ANSWER = 1_000
"""Characters of an endpoint's answer that are kept for people to read."""


def sign(payload: bytes, secrets: Iterable[str], timestamp: int) -> str:
    """The ``Stripe-Signature`` header: one ``v1`` per secret, and test mode's meaningless ``v0``.

    https://docs.stripe.com/webhooks#verify-manually
    """
    signed = b"%d.%s" % (timestamp, payload)
    parts = [f"t={timestamp}"]
    for secret in secrets:
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        parts.append(f"v1={digest}")
    parts.append(f"v0={hashlib.sha256(b'test mode' + signed).hexdigest()}")
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One POST to one endpoint. ``status`` is None when no answer came; then ``error`` says why.

    ``body`` is the beginning of the answer.
    """

    event_id: str
    event_type: str
    endpoint_id: str
    url: str
    attempt: int
    at: float
    seconds: float
    status: int | None
    error: str | None
    body: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def as_json(self) -> StripeObject:
        return {
            "event": self.event_id,
            "type": self.event_type,
            "endpoint": self.endpoint_id,
            "url": self.url,
            "attempt": self.attempt,
            "at": self.at,
            "seconds": round(self.seconds, 4),
            "status": self.status,
            "error": self.error,
            "body": self.body,
            "succeeded": self.succeeded,
        }


@dataclass(slots=True)
class _Delivery:
    event: StripeObject
    attempts: int = 0


class Endpoint(Record):
    """An endpoint, its queue and the deliveries that wait for their turn or their next try."""

    def __init__(self, data: StripeObject, config: WebhookEndpointConfig) -> None:
        super().__init__(data)
        self.config = config
        self.queue: deque[_Delivery] = deque()
        self.ready = asyncio.Event()
        self.waiting: dict[asyncio.TimerHandle, _Delivery] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.acknowledged: set[str] = set()

    def wants(self, type: str) -> bool:
        enabled = self.config.enabled_events
        return ("*" in enabled or type in enabled) and self.data["status"] == "enabled"


class WebhookDispatcher:
    """A queue and workers per endpoint; an event's first tries keep the order of events."""

    def __init__(
        self,
        account: Account,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = config = account.config
        self._clock = account.clock
        self._events = account.events
        self._ids = account.ids
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        # The API refuses a seventeenth; the sandbox's own settings may add more.
        self.registry: Collection[Endpoint] = Collection(capacity=1_000)
        self.faults = WebhookFaultPlan(seeded(config.seed, "webhooks"))
        """What happens to deliveries, on demand or by chance."""
        self._twinning = False
        self._running = False
        self._paused = False
        self._outstanding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.attempts: deque[DeliveryAttempt] = deque(maxlen=config.capacity)
        for endpoint in config.webhook_endpoints:
            self.add_endpoint(endpoint)
        account.events.subscribe(self._accept)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return tuple(self.registry)

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def outstanding(self) -> int:
        """Deliveries neither acknowledged nor given up."""
        return self._outstanding

    def add_endpoint(
        self,
        config: WebhookEndpointConfig,
        *,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Endpoint:
        """Events from now on are delivered here too."""
        data = build(
            "webhook_endpoint",
            id=self._ids.new("we"),
            api_version=config.api_version,
            created=self._clock.timestamp(),
            description=description,
            enabled_events=list(config.enabled_events),
            metadata=metadata or {},
            url=config.url,
        )
        endpoint = self.registry.add(Endpoint(data, config))
        if self._running:
            self._start_workers(endpoint)
        return endpoint

    def remove_endpoint(self, endpoint_id: str) -> None:
        """Forget an endpoint and what was still to be delivered there."""
        endpoint = self.registry.find(endpoint_id)
        if endpoint is None:
            return
        self._drop(endpoint)
        self.registry.remove(endpoint)
        for task in endpoint.tasks:
            task.cancel()

    def start(self) -> None:
        self._running = True
        for endpoint in self.registry:
            self._start_workers(endpoint)

    async def aclose(self) -> None:
        """Stop. What is queued gets ``shutdown_drain_seconds`` to leave."""
        if self._running and not self._paused and self._config.shutdown_drain_seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.shutdown_drain_seconds):
                    await self._idle.wait()
        self._running = False
        tasks = [task for endpoint in self.registry for task in endpoint.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in self.registry:
            endpoint.tasks.clear()
            self._drop(endpoint)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def drain(self, within: float = 10.0) -> None:
        """Wait until every delivery is acknowledged or given up."""
        if self._paused:
            raise RuntimeError("webhooks are paused: nothing would be delivered")
        async with asyncio.timeout(within):
            await self._idle.wait()

    def pause(self) -> None:
        """Hold deliveries back; events keep queueing. One already on its way arrives."""
        self._paused = True
        for endpoint in self.registry:
            endpoint.ready.clear()

    def resume(self) -> None:
        self._paused = False
        for endpoint in self.registry:
            self._wake(endpoint)

    def release(self, event_ids: Sequence[str]) -> None:
        """Resume with these events first, in this order; the others follow in theirs."""
        rank = {event_id: position for position, event_id in enumerate(event_ids)}
        for endpoint in self.registry:
            ordered = sorted(endpoint.queue, key=lambda d: rank.get(d.event["id"], len(rank)))
            endpoint.queue = deque(ordered)
        self.resume()

    def resend(self, event_id: str, endpoint_id: str | None = None) -> int:
        """Deliver an event again under its own id. Answers how many deliveries were queued."""
        event = self._events.find(event_id)
        if event is None:
            raise KeyError(event_id)
        chosen = [e for e in self.registry if endpoint_id is None or e.id == endpoint_id]
        for endpoint in chosen:
            self._enqueue(endpoint, _Delivery(event))
        return len(chosen)

    def drop_pending(self) -> int:
        """Lose every delivery that has not been made, as in an outage. Answers how many."""
        return sum(self._drop(endpoint) for endpoint in self.registry)

    def pending(self) -> list[StripeObject]:
        """The deliveries still to be made, in order, retries last."""
        return [
            {
                "endpoint": endpoint.id,
                "event": delivery.event["id"],
                "type": delivery.event["type"],
                "attempts": delivery.attempts,
            }
            for endpoint in self.registry
            for delivery in [*endpoint.queue, *endpoint.waiting.values()]
        ]

    def _accept(self, event: StripeObject) -> None:
        interested = [e for e in self.registry if e.wants(event["type"])]
        event["pending_webhooks"] = len(interested)
        if not interested:
            return
        struck = self.faults.strike(event["type"]) if self.faults and not self._twinning else {}
        if "drop" not in struck:
            copies = 2 if "duplicate" in struck else 1
            for endpoint in interested:
                for _ in range(copies):
                    self._send(endpoint, _Delivery(event), struck)
        if "twin" in struck:
            self._twinning = True
            try:
                self._events.tell_again(event)
            finally:
                self._twinning = False

    def _send(
        self,
        endpoint: Endpoint,
        delivery: _Delivery,
        struck: Mapping[WebhookFaultKind, WebhookFault],
    ) -> None:
        chance = self.faults.chance
        if "delay" in struck and len(endpoint.waiting) < self._config.capacity:
            self._outstanding += 1
            self._idle.clear()
            self._enqueue_later(endpoint, delivery, struck["delay"].seconds.draw(chance))
            return
        self._enqueue(endpoint, delivery)
        if "reorder" in struck and len(endpoint.queue) > 1:
            endpoint.queue.insert(chance.randrange(len(endpoint.queue)), endpoint.queue.pop())

    def _enqueue(self, endpoint: Endpoint, delivery: _Delivery) -> None:
        self._outstanding += 1
        self._idle.clear()
        if len(endpoint.queue) >= self._config.capacity:
            lost = endpoint.queue.popleft()
            logger.warning("webhook.queue_full event=%s endpoint=%s", lost.event["id"], endpoint.id)
            self._settled()
        endpoint.queue.append(delivery)
        self._wake(endpoint)

    def _wake(self, endpoint: Endpoint) -> None:
        if endpoint.queue and not self._paused:
            endpoint.ready.set()

    def _start_workers(self, endpoint: Endpoint) -> None:
        for number in range(self._config.webhook_concurrency):
            name = f"webhooks-{endpoint.id}-{number}"
            endpoint.tasks.append(asyncio.create_task(self._work(endpoint), name=name))

    async def _work(self, endpoint: Endpoint) -> None:
        while True:
            await endpoint.ready.wait()
            if self._paused or not endpoint.queue:
                endpoint.ready.clear()
                continue
            await self._deliver(endpoint, endpoint.queue.popleft())

    async def _deliver(self, endpoint: Endpoint, delivery: _Delivery) -> None:
        delivery.attempts += 1
        try:
            attempt = await self._attempt(endpoint, delivery)
        except BaseException:
            self._settled()
            raise
        self.attempts.append(attempt)
        if attempt.succeeded:
            self._acknowledge(endpoint, delivery.event)
            self._settled()
        elif (
            delivery.attempts > len(self._config.retry_schedule)
            or len(endpoint.waiting) >= self._config.capacity
        ):
            logger.warning(
                "webhook.given_up event=%s endpoint=%s", attempt.event_id, attempt.endpoint_id
            )
            self._settled()
        else:
            self._retry_later(endpoint, delivery)

    async def _attempt(self, endpoint: Endpoint, delivery: _Delivery) -> DeliveryAttempt:
        event = delivery.event
        version = endpoint.config.api_version
        body = event if version is None else {**event, "api_version": version}
        payload = json.dumps(body, indent=2, ensure_ascii=False).encode()
        at = time.time()
        secrets = [endpoint.config.secret, *endpoint.config.rolled_secrets]
        headers = {
            "Accept": "*/*; q=0.5, application/xml",
            "Cache-Control": "no-cache",
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign(payload, secrets, int(at)),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        status, error, answer = None, None, ""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._config.webhook_timeout):
                response = await self._http().post(
                    endpoint.config.url, content=payload, headers=headers
                )
            status, answer = response.status_code, response.text[:_KEPT_OF_AN_ANSWER]
        except TimeoutError:
            error = f"no answer within {self._config.webhook_timeout} s"
        except Exception as failure:
            # Whatever the receiver does, in-process ones included, is a failed delivery: it is
            # recorded here and tried again, as Stripe would.
            error = f"{type(failure).__name__}: {failure}"
            logger.info("webhook.failed event=%s error=%s", event["id"], error)
        return DeliveryAttempt(
            event_id=event["id"],
            event_type=event["type"],
            endpoint_id=endpoint.id,
            url=endpoint.config.url,
            attempt=delivery.attempts,
            at=at,
            seconds=time.perf_counter() - started,
            status=status,
            error=error,
            body=answer,
        )

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            options: dict[str, Any] = {"trust_env": False, "follow_redirects": False}
            if self._transport is not None:
                options["transport"] = _Borrowed(self._transport)
            self._client = httpx.AsyncClient(timeout=self._config.webhook_timeout, **options)
        return self._client

    def _acknowledge(self, endpoint: Endpoint, event: StripeObject) -> None:
        """Count an endpoint once per event, however often the event is sent there."""
        if event["id"] not in endpoint.acknowledged:
            endpoint.acknowledged.add(event["id"])
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
            if len(endpoint.acknowledged) > 2 * self._config.capacity:
                endpoint.acknowledged = {
                    id for id in endpoint.acknowledged if self._events.find(id) is not None
                }

    def _retry_later(self, endpoint: Endpoint, delivery: _Delivery) -> None:
        self._enqueue_later(endpoint, delivery, self._config.retry_schedule[delivery.attempts - 1])

    def _enqueue_later(self, endpoint: Endpoint, delivery: _Delivery, wait: float) -> None:
        """A delivery that already counts as outstanding."""
        handle: asyncio.TimerHandle

        def requeue() -> None:
            del endpoint.waiting[handle]
            endpoint.queue.append(delivery)
            self._wake(endpoint)

        handle = asyncio.get_running_loop().call_later(wait, requeue)
        endpoint.waiting[handle] = delivery

    def _drop(self, endpoint: Endpoint) -> int:
        dropped = len(endpoint.queue) + len(endpoint.waiting)
        for handle in endpoint.waiting:
            handle.cancel()
        endpoint.waiting.clear()
        endpoint.queue.clear()
        for _ in range(dropped):
            self._settled()
        return dropped

    def _settled(self) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._idle.set()


class _Borrowed(httpx.AsyncBaseTransport):
    """A caller's transport, which is the caller's to close."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)
