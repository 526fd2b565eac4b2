"""The wiring: services built once in the lifespan, and the aliases by which routes ask for them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from app.auth import current_caller
from app.domain.callers import Caller
from app.domain.clock import Clock, utc_now
from app.domain.money import maximum_charges
from app.domain.user_ids import UserIdType
from app.gateways.payments import PaymentGateway
from app.gateways.stripe import StripeConnector, connect_stripe, open_stripe_gateway
from app.metrics import Metrics
from app.repositories.database import (
    AUTH_DATABASE,
    PAYMENTS_DATABASE,
    Commands,
    Databases,
    probe,
)
from app.repositories.idempotency_keys import IdempotencyKeyRepository
from app.repositories.indexes import (
    IDEMPOTENCY_KEYS,
    LOCKS,
    ORDERS,
    PAYMENTS,
    WEBHOOK_EVENTS,
    create_indexes,
)
from app.repositories.locks import LockRepository
from app.repositories.orders import OrderRepository
from app.repositories.payments import PaymentRepository
from app.repositories.users import UserRepository
from app.repositories.webhook_events import WebhookEventRepository
from app.services.advancement import PaymentAdvancer
from app.services.cancellation import CancellationService
from app.services.card_outcomes import CardOutcomes
from app.services.checkout import CheckoutService, Redirects
from app.services.credits import CreditsService
from app.services.event_handlers import EventHandlers
from app.services.event_payments import EventPayments
from app.services.flows import flows_of
from app.services.fulfilment import FulfilmentService
from app.services.health import HealthService, Probe
from app.services.history import HistoryService
from app.services.idempotency import IdempotencyService
from app.services.inbox import Inbox
from app.services.intents import IntentService
from app.services.issuer_reports import IssuerReportRecorder
from app.services.lookup import PaymentLookup
from app.services.missed_events import MissedEvents
from app.services.payment_writer import PaymentWriter, ReconcilePolicy
from app.services.purchases import Pricing
from app.services.reconciliation import ReconciliationService
from app.services.refund_making import RefundMaker
from app.services.refund_outcomes import RefundOutcomes
from app.services.refunds import RefundService
from app.settings import Settings

DatabaseConnector = Callable[[Settings], AbstractAsyncContextManager[Databases]]


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes and commands call."""

    intents: IntentService
    checkout: CheckoutService
    credits: CreditsService
    cancellation: CancellationService
    refunds: RefundService
    lookup: PaymentLookup
    history: HistoryService
    inbox: Inbox
    idempotency: IdempotencyService
    advancer: PaymentAdvancer
    reconciliation: ReconciliationService
    health: HealthService


@asynccontextmanager
async def open_services(
    settings: Settings,
    metrics: Metrics,
    connect: DatabaseConnector,
    clock: Clock = utc_now,
    connect_stripe: StripeConnector = connect_stripe,
) -> AsyncIterator[Services]:
    """Connects, makes the indexes and builds the services; closes the pools at the end.

    Raises DatabaseUnavailable when the payments database does not answer, StartupError when an
    index cannot be made. The auth database may be away: cards sell without it.
    """
    async with connect(settings) as databases:
        await create_indexes(databases.payments)
        repositories = _repositories(settings, databases)
        deployment = settings.deployment_name or await repositories.locks.deployment_name()
        async with open_stripe_gateway(
            settings, metrics, connect_stripe, deployment=deployment
        ) as gateway:
            yield _services(settings, metrics, clock, repositories, gateway, deployment)


@dataclass(frozen=True, slots=True)
class _Repositories:
    payments: PaymentRepository
    orders: OrderRepository
    events: WebhookEventRepository
    keys: IdempotencyKeyRepository
    locks: LockRepository
    users: UserRepository
    probes: Mapping[str, Probe]


def _repositories(settings: Settings, databases: Databases) -> _Repositories:
    own, users = databases.payments, databases.auth[settings.auth_users_collection]
    seconds = settings.database_timeout_seconds
    commands = Commands(PAYMENTS_DATABASE, timeout_seconds=seconds)
    retention = timedelta(days=settings.webhook_event_retention_days)
    return _Repositories(
        payments=PaymentRepository(own[PAYMENTS], commands),
        orders=OrderRepository(own[ORDERS], commands),
        events=WebhookEventRepository(own[WEBHOOK_EVENTS], commands, retention=retention),
        keys=IdempotencyKeyRepository(own[IDEMPOTENCY_KEYS], commands),
        locks=LockRepository(own[LOCKS], commands),
        users=UserRepository(
            users,
            Commands(AUTH_DATABASE, timeout_seconds=seconds),
            credits_field=settings.auth_credits_field,
            user_id_type=settings.auth_user_id_type,
        ),
        probes={
            PAYMENTS_DATABASE: partial(probe, own[PAYMENTS], PAYMENTS_DATABASE),
            AUTH_DATABASE: partial(probe, users, AUTH_DATABASE),
        },
    )


def _services(
    settings: Settings,
    metrics: Metrics,
    clock: Clock,
    stored: _Repositories,
    gateway: PaymentGateway,
    deployment: str,
) -> Services:
    policy = ReconcilePolicy(
        after=timedelta(seconds=settings.reconcile_after_seconds),
        abandon_after=timedelta(seconds=settings.abandon_after_seconds),
    )
    pricing = Pricing(
        credit_value=settings.credit_value_cents,
        max_amounts=maximum_charges(settings.max_amount_cents),
    )
    redirects = Redirects(
        success_url=settings.payment_success_url,
        cancel_url=settings.payment_cancel_url,
        allowed_origins=settings.redirect_origins,
    )
    payments, users = stored.payments, stored.users

    writer = PaymentWriter(payments, clock=clock, policy=policy, metrics=metrics)
    lookup = PaymentLookup(payments, clock=clock)
    fulfilment = FulfilmentService(writer, stored.orders, clock=clock)

    # The three ways to pay
    outcomes = CardOutcomes(writer, fulfilment, gateway, clock=clock)
    intents = IntentService(writer, lookup, outcomes, fulfilment, gateway, pricing, clock=clock)
    checkout = CheckoutService(writer, lookup, outcomes, gateway, pricing, redirects, clock=clock)
    credits = CreditsService(writer, fulfilment, users, pricing, clock=clock)
    flows = flows_of(intents=intents, checkout=checkout, credits=credits)

    # Refunds
    refund_maker = RefundMaker(writer, payments, fulfilment, users, gateway, clock=clock)
    refund_outcomes = RefundOutcomes(writer, refund_maker, gateway, clock=clock)
    refunds = RefundService(
        writer,
        payments,
        lookup,
        refund_maker,
        refund_outcomes,
        users,
        gateway,
        allow_user_refunds=settings.allow_user_refunds,
        clock=clock,
    )

    # Events
    event_payments = EventPayments(payments, outcomes, gateway, deployment=deployment, clock=clock)
    issuer_reports = IssuerReportRecorder(writer, clock=clock)
    handlers = EventHandlers(event_payments, outcomes, refund_outcomes, issuer_reports, gateway)
    livemode = settings.mode == "live"
    inbox = Inbox(stored.events, handlers, gateway, livemode=livemode, clock=clock, metrics=metrics)
    missed_events = MissedEvents(inbox, stored.events, payments, stored.locks, gateway, clock=clock)

    advancer = PaymentAdvancer(
        writer, payments, flows, credits, fulfilment, refund_maker, clock=clock
    )
    return Services(
        intents=intents,
        checkout=checkout,
        credits=credits,
        cancellation=CancellationService(lookup, flows),
        refunds=refunds,
        lookup=lookup,
        history=HistoryService(payments, stored.orders, settings.auth_user_id_type),
        inbox=inbox,
        idempotency=IdempotencyService(stored.keys, clock=clock),
        advancer=advancer,
        reconciliation=ReconciliationService(
            payments,
            stored.events,
            stored.locks,
            advancer,
            inbox,
            missed_events,
            clock=clock,
            metrics=metrics,
        ),
        health=HealthService(stored.probes),
    )


# Coroutines, because FastAPI sends plain functions to a thread pool.


async def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def get_user_id_type(request: Request) -> UserIdType:
    settings: Settings = request.app.state.settings
    return settings.auth_user_id_type


async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


SettingsDep = Annotated[Settings, Depends(get_settings)]
UserIdTypeDep = Annotated[UserIdType, Depends(get_user_id_type)]
ServicesDep = Annotated[Services, Depends(get_services)]
CallerDep = Annotated[Caller, Depends(current_caller)]
