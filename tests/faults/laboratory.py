"""Processes that live and die on one world, and everyone who talks to them."""

import contextlib
import hashlib
import hmac
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import stripe
import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, WrappedLogger

from app.application import create_app
from app.dependencies import Services
from app.errors import PaymentServiceError
from app.repositories.database import Databases, Document
from app.routers import BASE_PATH
from app.settings import Settings
from tests.faults.checker import (
    Broken,
    check_at_rest,
    check_moment,
    may_be_paid_with,
    status_of,
)
from tests.faults.steps import DEATHS, LASTING, Died, Effect, Step, chosen, strike
from tests.faults.wires import InProcessClient, call_asgi, wired
from tests.faults.world import STEP_SECONDS, Reply, Request, World, minutes

WEBHOOK_SECRET: Final = "whsec_test_secret_of_the_laboratory"
LEASE_SECONDS: Final = 31.0
RETRIES: Final = 6
ROUNDS: Final = 60
"""Rounds of waiting and reconciling after which a world that moves still counts as stuck."""

operation: ContextVar[str] = ContextVar("operation", default="main")

Gate = Callable[[str, Step], Awaitable[None]]

_unforeseen: list[str] = []
"""What the application logged with a trace, in the running case."""


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """The application's log is not written, for faults are the rule here, but listened to."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_listen],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _listen(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    error = event.get("exc_info")
    if error:
        raised = error if isinstance(error, BaseException) else sys.exc_info()[1]
        _unforeseen.append(f"{event['event']}: {type(raised).__name__}: {raised}")
    raise structlog.DropEvent


class Machine:
    """An application, made once: making one costs more than a whole case. Each process that runs
    on it has services of its own, wired to the process's world.
    """

    def __init__(self, number: int) -> None:
        self.process: Process | None = None
        self.settings = Settings(
            _env_file=None,
            mongodb_url=SecretStr("mongomock://"),
            auth_mongodb_url=SecretStr("mongomock://"),
            stripe_secret_key=SecretStr("sk_test_laboratory"),
            stripe_publishable_key="pk_test_laboratory",
            stripe_webhook_secret=SecretStr(WEBHOOK_SECRET),
            reconcile_interval_seconds=0,
        )
        self.app = create_app(
            self.settings,
            connect=self._connect,
            connect_stripe=self._connect_stripe,
            clock=lambda: self._living.laboratory.world.clock(number),
        )

    @property
    def _living(self) -> "Process":
        assert self.process is not None
        return self.process

    @contextlib.asynccontextmanager
    async def _connect(self, _settings: Settings) -> AsyncIterator[Databases]:
        yield wired(self._living.laboratory.world.databases, self._living)

    @contextlib.asynccontextmanager
    async def _connect_stripe(self, _settings: Settings) -> AsyncIterator[stripe.HTTPClient]:
        world = self._living.laboratory.world
        yield InProcessClient(world.stripe, world.stripe_app, self._living, world.pass_time)


_MACHINES: list[Machine] = []


def machine(number: int) -> Machine:
    while len(_MACHINES) <= number:
        _MACHINES.append(Machine(len(_MACHINES)))
    return _MACHINES[number]


class Process:
    """One life of the service: from its start until it dies or the case is over."""

    def __init__(self, laboratory: "Laboratory", on: Machine) -> None:
        self.laboratory = laboratory
        self.machine = on
        self.is_dead = False
        self._lifespan = on.app.router.lifespan_context(on.app)

    @property
    def services(self) -> Services:
        services: Services = self.machine.app.state.services
        return services

    async def start(self) -> None:
        before = self.machine.process
        assert before is None or before.is_dead, "one laboratory at a time: machines are shared"
        self.machine.process = self
        await self._lifespan.__aenter__()

    async def stop(self) -> None:
        """Nothing can be sent any more; what is left is only memory."""
        self.is_dead = True
        with contextlib.suppress(Died):
            await self._lifespan.__aexit__(None, None, None)

    async def perform(self, step: Step, effect: Effect) -> Any:
        self._require_life()
        if self.laboratory.gate is not None:
            await self.laboratory.gate(operation.get(), step)
            self._require_life()
        return await self.laboratory.perform(self, step, effect)

    def _require_life(self) -> None:
        if self.is_dead:
            raise Died


@dataclass(slots=True)
class Script:
    """What is recorded, and broken: faults by the number of the step."""

    name: str
    faults: dict[int, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


class Laboratory:
    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.processes: dict[int, Process] = {}
        self.gate: Gate | None = None
        self.script: Script | None = None
        self.trace: list[str] = []
        self.broken: list[Broken] = []
        self.deaths = 0
        self._lasting: dict[tuple[str, str], str] = {}
        self._keys = 0
        _unforeseen.clear()

    # Steps

    def play(self, name: str, faults: dict[int, str] | None = None) -> Script:
        """From now on steps are recorded, and those with these numbers are broken."""
        self._lasting.clear()
        self.script = Script(name, dict(faults or {}))
        return self.script

    def pause(self) -> None:
        self.script = None
        self._lasting.clear()

    async def perform(self, process: Process, step: Step, effect: Effect) -> Any:
        self.world.now += STEP_SECONDS
        fault, number = None, ""
        script = self.script
        if script is not None:
            number = f"{script.name}{len(script.steps)}"
            fault = script.faults.get(len(script.steps))
            script.steps.append(step)
        if fault is None:
            # What lasts is a connection that stays broken, for as long as the operation runs.
            fault = self._lasting.get((operation.get(), step.kind))
        else:
            fault = chosen(step, fault)
        if fault is not None and fault.endswith(LASTING):
            self._lasting[operation.get(), step.kind] = "reset_before"
        self.trace.append(
            f"{number:>6} {operation.get():<10} {step}{f'   <== {fault}' if fault else ''}"
        )
        if fault in DEATHS:
            if fault == "die_after":
                await effect()
                self._witness(step)
            process.is_dead = True
            raise Died
        if fault is not None:
            try:
                return await strike(fault, step, effect, self.world.stripe)
            finally:
                self._witness(step)
        answer = await effect()
        self._witness(step)
        return answer

    def _end_of_operation(self) -> None:
        for kind in ("db", "stripe"):
            self._lasting.pop((operation.get(), kind), None)

    def _witness(self, step: Step) -> None:
        if step.writes:
            self.broken.extend(check_moment(self.world, step))

    # Processes

    async def process(self, number: int = 0) -> Process:
        """The living process on that machine, started if need be."""
        for _ in range(5):
            process = self.processes.get(number)
            if process is not None and not process.is_dead:
                return process
            if process is not None:
                await process.stop()
            fresh = Process(self, machine(number))
            self.processes[number] = fresh
            try:
                await fresh.start()
            except Died:
                self._note_death()
            except PaymentServiceError as error:
                # A start that fails is tried again by the orchestrator.
                self.note(f"start failed: {type(error).__name__}")
                fresh.is_dead = True
            self._lasting.clear()
        return self.processes[number]

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if not process.is_dead]

    async def close(self) -> None:
        for process in self.processes.values():
            await process.stop()
        self.processes.clear()

    def note(self, line: str) -> None:
        self.trace.append(f"       -- {line}")

    def _note_death(self) -> None:
        self.deaths += 1
        self.note("the process died")

    # Callers

    def new_key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"

    async def post(
        self, path: str, body: Document, *, key: str | None = "", on: int = 0
    ) -> Reply | None:
        """One try of a new request, with a new key (None: without); None when no answer came."""
        key = self.new_key() if key == "" else key
        request = Request("POST", path, body, key, self.world.now)
        self.world.requests.append(request)
        return await self.send(request, on=on)

    async def get(self, path: str, *, on: int = 0) -> Reply | None:
        request = Request("GET", path, {}, None, self.world.now)
        self.world.requests.append(request)
        return await self.send(request, on=on)

    async def send(self, request: Request, *, on: int = 0) -> Reply | None:
        """One try."""
        request.tries += 1
        headers = {"content-type": "application/json"}
        if request.key is not None:
            headers["idempotency-key"] = request.key
        body = json.dumps(request.body).encode() if request.method == "POST" else b""
        reply = await self._call(request.method, request.path, headers, body, on)
        self.note(f"{request} -> {_shown(reply)}")
        if reply is not None and (request.reply is None or not request.is_answered):
            request.reply = reply
        return reply

    async def retry_unanswered(self) -> bool:
        """Callers with a key that is still good ask again until they are told something definite;
        False when there was nothing to ask.
        """
        for tries in range(RETRIES):
            waiting = [
                request
                for request in self.world.requests
                if request.key is not None and not request.is_answered and self.is_young(request)
            ]
            if not waiting:
                return tries > 0
            self.world.pass_time(LEASE_SECONDS)
            for request in waiting:
                await self.send(request)
        for request in waiting:
            request.is_stuck = not request.is_answered and not self._stripe_keeps_failing(request)
        return True

    async def replay_answered(self) -> None:
        """A repeat with the same key gets the same answer (promise 7), but for one with which a
        shopper could pay what can no longer be paid (promise 10).
        """
        for request in list(self.world.requests):
            first = request.reply
            if request.key is None or first is None or not request.is_answered:
                continue
            if not self.is_young(request):
                continue
            again = await self.send(request)
            if again is None or again.status >= 500:
                continue
            story = f"{request}: first {_shown(first)}, repeated {_shown(again)}"
            if may_be_paid_with(self.world, request, first):
                if _comparable(again) != _comparable(first):
                    self.broken.append(Broken("7", story))
            elif again.body.get("code") != "payment_not_confirmable":
                self.broken.append(Broken("10", story))
            elif again.body["payment_status"] != status_of(self.world, again):
                self.broken.append(Broken("answer", story))

    def _stripe_keeps_failing(self, request: Request) -> bool:
        """A 500 is kept under Stripe's key like any answer: for a day it is repeated, and so is
        ours. https://docs.stripe.com/api/idempotent_requests
        """
        told = request.reply.body.get("code") if request.reply is not None else None
        kept = (each.answer for each in self.world.stripe.idempotency._kept.values())
        return told == "stripe_error" and any(a is not None and a.status >= 500 for a in kept)

    def is_young(self, request: Request) -> bool:
        """Whether its Idempotency-Key is surely not forgotten yet."""
        return self.world.now - request.at < minutes(24 * 60 - 10)

    # Stripe

    @property
    def undelivered(self) -> list[str]:
        """What Stripe still tries to deliver."""
        done = self.world.acknowledged | self.world.lost
        return [id for id in self._subscribed() if id not in done]

    def event_ids(self, *types: str) -> list[str]:
        """Ids of the events of these types (all: of every type we are subscribed to)."""
        return [
            id for id in self._subscribed() if not types or self.world.events[id]["type"] in types
        ]

    async def deliver(self, event_id: str, *, on: int = 0) -> Reply | None:
        """Stripe sends the event; any 2xx acknowledges it."""
        reply = await self._send_event(self.world.events[event_id], WEBHOOK_SECRET, on=on)
        if reply is not None and reply.status < 300:
            self.world.acknowledged.add(event_id)
        return reply

    async def forge(self, event: Document, *, secret: str) -> None:
        """Somebody sends an event that Stripe never made, or not to us: it must be refused."""
        reply = await self._send_event(event, secret)
        if reply is not None and reply.status < 300:
            self.broken.append(Broken("4", f"a forged {event['type']} was answered 2xx"))

    async def _send_event(self, event: Document, secret: str, *, on: int = 0) -> Reply | None:
        payload = json.dumps(event).encode()
        at = int(time.time())
        digest = hmac.new(secret.encode(), b"%d.%s" % (at, payload), hashlib.sha256)
        headers = {
            "content-type": "application/json",
            "stripe-signature": f"t={at},v1={digest.hexdigest()}",
        }
        reply = await self._call("POST", "/webhook/stripe", headers, payload, on)
        self.note(f"event {event['type']} -> {_shown(reply)}")
        return reply

    async def deliver_all(self, event_ids: Iterable[str] | None = None) -> None:
        for event_id in list(self.undelivered if event_ids is None else event_ids):
            await self.deliver(event_id)

    def _subscribed(self) -> list[str]:
        return [id for id, event in self.world.events.items() if event["type"] in EVENT_TYPES]

    # Time and the reconciler

    async def wait(self, seconds: float) -> None:
        """Time passes as a step: among operations that run at once, it passes at any moment."""
        if self.gate is not None:
            await self.gate(operation.get(), Step("time", "passes", f"{seconds:g} s"))
        self.note(f"{seconds:g} s pass")
        self.world.pass_time(seconds)

    async def reconcile(self, *, on: int = 0) -> bool:
        """One run; False when anything in it failed, it died or another instance was at it."""
        process = await self.process(on)
        try:
            report = await process.services.reconciliation.run_once()
        except Died:
            self._note_death()
            return False
        except PaymentServiceError as error:
            self.note(f"reconciler failed: {type(error).__name__}")
            return False
        finally:
            self._end_of_operation()
        self.note(f"reconciler: {report.as_fields() if report.ran else 'not its turn'}")
        return report.ran and not report.failed

    async def come_to_rest(self, *, redelivers: bool) -> bool:
        """Waits, delivers and reconciles until nothing is due any more; False: it never came."""
        for _ in range(ROUNDS):
            self.world.settle_banks()
            if redelivers:
                await self.deliver_all()
            ran = await self.reconcile()
            due = self.world.next_due()
            waiting = redelivers and bool(self.undelivered)
            if ran and due is None and not waiting:
                # Once more, for whatever Stripe's list shows only now.
                self.world.pass_time(minutes(11))
                if await self.reconcile() and self.world.next_due() is None:
                    return True
                continue
            wait = minutes(11) if not ran else 61.0
            if ran and due is not None:
                wait = max(1.0, due.timestamp() - self.world.now + 0.01)
                if waiting:
                    wait = min(wait, minutes(10))
            self.world.pass_time(wait)
        return False

    async def recover(
        self, *, retries: bool, redelivers: bool, faults: dict[int, str] | None = None
    ) -> Script:
        """After trouble: a fresh process, callers and Stripe who ask again or not, then rest; and
        the promises are checked.
        """
        script = self.play("r", faults)
        if retries:
            await self.retry_unanswered()
        if redelivers:
            await self.deliver_all()
        rested = await self.come_to_rest(redelivers=redelivers)
        if retries and await self.retry_unanswered():
            rested = await self.come_to_rest(redelivers=redelivers) and rested
        self.pause()
        if not rested:
            self.broken.append(Broken("rest", "work is still due after many rounds"))
        await self.replay_answered()
        self.broken.extend(
            check_at_rest(self.world, retried=retries, subscribed=set(self._subscribed()))
        )
        self.broken.extend(Broken("unforeseen", logged) for logged in _unforeseen)
        return script

    async def _call(
        self, method: str, path: str, headers: dict[str, str], body: bytes, on: int
    ) -> Reply | None:
        process = await self.process(on)
        if process.is_dead:
            return None
        try:
            text, status, answered = await call_asgi(
                process.machine.app, method, BASE_PATH + path, "", headers, body
            )
        except Died:
            self._note_death()
            return None
        finally:
            self._end_of_operation()
        if process not in self.living:
            # It died in another request of the same process: this answer was never sent.
            return None
        return Reply(status, json.loads(text), "idempotent-replayed" in answered)


EVENT_TYPES: Final = frozenset(
    """
    payment_intent.succeeded payment_intent.payment_failed payment_intent.processing
    payment_intent.requires_action
    payment_intent.canceled checkout.session.completed checkout.session.async_payment_succeeded
    checkout.session.async_payment_failed checkout.session.expired charge.refunded refund.created
    refund.updated refund.failed charge.dispute.created charge.dispute.updated
    charge.dispute.closed charge.dispute.funds_withdrawn charge.dispute.funds_reinstated
    radar.early_fraud_warning.created radar.early_fraud_warning.updated
    """.split()
)
"""What the endpoint is subscribed to, by the design."""


def _shown(reply: Reply | None) -> str:
    if reply is None:
        return "no answer"
    names = ("code", "status", "result", "payment_status", "refund_id", "order_id", "detail")
    facts = {name: reply.body[name] for name in names if name in reply.body}
    return f"{reply.status} {facts}{' (replayed)' if reply.replayed else ''}"


def _comparable(reply: Reply) -> Any:
    body = {name: value for name, value in reply.body.items() if name != "request_id"}
    return reply.status, body
