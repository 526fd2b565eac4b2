"""The wiring: services built once in the lifespan, and the aliases by which routes ask for them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from app.auth import current_caller
from app.domain.callers import Caller
from app.domain.clock import Clock, utc_now
from app.domain.money import maximum_charges
from app.domain.user_ids import UserIdType
from app.gateways.stripe import StripeConnector, connect_stripe, open_stripe_gateway
from app.metrics import Metrics
from app.repositories.database import (
    AUTH_DATABASE,
    PAYMENTS_DATABASE,
    Commands,
    Databases,
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
from app.services.cancellation import CancellationService
from app.services.card_outcomes import CardOutcomes
from app.services.checkout import CheckoutService, Redirects
from app.services.credits import CreditsService
from app.services.fulfilment import FulfilmentService
from app.services.health import HealthService
from app.services.history import HistoryService
from app.services.idempotency import IdempotencyService
from app.services.intents import IntentService
from app.services.ledger import PaymentLedger, ReconcilePolicy
from app.services.lookup import PaymentLookup
from app.services.purchases import Pricing
from app.services.reconciliation import ReconciliationService
from app.services.refunds import RefundService
from app.services.webhooks import WebhookService
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
    webhooks: WebhookService
    idempotency: IdempotencyService
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
    async with connect(settings) as databases, AsyncExitStack() as stack:
        await create_indexes(databases.payments)
        own = databases.payments
        seconds = settings.database_timeout_seconds
        commands = Commands(PAYMENTS_DATABASE, timeout_seconds=seconds)
        payments = PaymentRepository(own[PAYMENTS], commands)
        orders = OrderRepository(own[ORDERS], commands)
        events = WebhookEventRepository(
            own[WEBHOOK_EVENTS],
            commands,
            retention=timedelta(days=settings.webhook_event_retention_days),
        )
        locks = LockRepository(own[LOCKS], commands)
        deployment = settings.deployment_name or await locks.deployment_name()
        gateway = await stack.enter_async_context(
            open_stripe_gateway(settings, metrics, connect_stripe, deployment=deployment)
        )
        users_collection = databases.auth[settings.auth_users_collection]
        users = UserRepository(
            users_collection,
            Commands(AUTH_DATABASE, timeout_seconds=seconds),
            credits_field=settings.auth_credits_field,
            user_id_type=settings.auth_user_id_type,
        )
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

        ledger = PaymentLedger(payments, clock=clock, policy=policy, metrics=metrics)
        lookup = PaymentLookup(payments)
        fulfilment = FulfilmentService(ledger, orders, clock=clock)
        outcomes = CardOutcomes(ledger, fulfilment, gateway, clock=clock)
        intents = IntentService(ledger, lookup, outcomes, gateway, pricing, clock=clock)
        checkout = CheckoutService(
            ledger, lookup, outcomes, gateway, pricing, redirects, clock=clock
        )
        credits = CreditsService(ledger, fulfilment, users, pricing, clock=clock)
        refunds = RefundService(
            ledger,
            lookup,
            fulfilment,
            users,
            gateway,
            allow_user_refunds=settings.allow_user_refunds,
            clock=clock,
        )
        webhooks = WebhookService(
            events,
            payments,
            ledger,
            outcomes,
            refunds,
            gateway,
            deployment=deployment,
            livemode=settings.mode == "live",
            clock=clock,
            metrics=metrics,
        )
        yield Services(
            intents=intents,
            checkout=checkout,
            credits=credits,
            cancellation=CancellationService(lookup, intents, checkout, credits, clock=clock),
            refunds=refunds,
            lookup=lookup,
            history=HistoryService(payments, orders, settings.auth_user_id_type),
            webhooks=webhooks,
            idempotency=IdempotencyService(
                IdempotencyKeyRepository(own[IDEMPOTENCY_KEYS], commands), clock=clock
            ),
            reconciliation=ReconciliationService(
                payments,
                events,
                locks,
                ledger,
                intents,
                checkout,
                credits,
                refunds,
                fulfilment,
                webhooks,
                gateway,
                clock=clock,
                metrics=metrics,
            ),
            health=HealthService(payments=own[PAYMENTS], users=users_collection),
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
