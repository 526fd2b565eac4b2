"""What may be asked: every parameter that the SDK can send is known to the sandbox."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest

from stripe_sandbox.objects import (
    charges,
    customers,
    disputes,
    early_fraud_warnings,
    events,
    ledger,
    payment_methods,
    refunds,
)
from stripe_sandbox.objects import checkout_session_params as sessions
from stripe_sandbox.objects import payment_intent_params as intents
from stripe_sandbox.webhooks import endpoints as webhook_endpoints

ROWS = [
    ("_payment_intent_create_params.PaymentIntentCreateParams", intents.CREATE),
    ("_payment_intent_retrieve_params.PaymentIntentRetrieveParams", intents.RETRIEVE),
    ("_payment_intent_update_params.PaymentIntentUpdateParams", intents.UPDATE),
    ("_payment_intent_confirm_params.PaymentIntentConfirmParams", intents.CONFIRM),
    ("_payment_intent_capture_params.PaymentIntentCaptureParams", intents.CAPTURE),
    ("_payment_intent_cancel_params.PaymentIntentCancelParams", intents.CANCEL),
    ("_payment_intent_list_params.PaymentIntentListParams", intents.LIST),
    ("checkout._session_create_params.SessionCreateParams", sessions.CREATE),
    ("checkout._session_update_params.SessionUpdateParams", sessions.UPDATE),
    ("checkout._session_expire_params.SessionExpireParams", sessions.EXPIRE),
    ("checkout._session_list_params.SessionListParams", sessions.LIST),
    ("checkout._session_list_line_items_params.SessionListLineItemsParams", sessions.LINE_ITEMS),
    ("_charge_update_params.ChargeUpdateParams", charges.UPDATE),
    ("_charge_list_params.ChargeListParams", charges.LIST),
    ("_refund_create_params.RefundCreateParams", refunds.CREATE),
    ("_refund_update_params.RefundUpdateParams", refunds.UPDATE),
    ("_refund_list_params.RefundListParams", refunds.LIST),
    ("_payment_method_update_params.PaymentMethodUpdateParams", payment_methods.UPDATE),
    ("_payment_method_attach_params.PaymentMethodAttachParams", customers.ATTACH),
    ("_payment_method_list_params.PaymentMethodListParams", customers.METHODS_BY_PARAM),
    ("_customer_create_params.CustomerCreateParams", customers.CREATE),
    ("_customer_update_params.CustomerUpdateParams", customers.UPDATE),
    ("_customer_list_params.CustomerListParams", customers.LIST),
    ("_event_list_params.EventListParams", events.LIST),
    ("_webhook_endpoint_create_params.WebhookEndpointCreateParams", webhook_endpoints.CREATE),
    ("_webhook_endpoint_update_params.WebhookEndpointUpdateParams", webhook_endpoints.UPDATE),
    ("_webhook_endpoint_list_params.WebhookEndpointListParams", webhook_endpoints.LIST),
    ("_dispute_update_params.DisputeUpdateParams", disputes.UPDATE),
    ("_dispute_list_params.DisputeListParams", disputes.LIST),
    ("_balance_transaction_list_params.BalanceTransactionListParams", ledger.LIST),
    (
        "radar._early_fraud_warning_list_params.EarlyFraudWarningListParams",
        early_fraud_warnings.LIST,
    ),
]
ABOUT_THE_REQUEST = {
    "api_key",
    "content_type",
    "headers",
    "idempotency_key",
    "max_network_retries",
    "stripe_account",
    "stripe_context",
    "stripe_version",
}


@pytest.mark.parametrize(("source", "spec"), ROWS, ids=[source for source, _ in ROWS])
def test_no_parameter_of_the_sdk_is_unknown(source: str, spec: Mapping[str, Any]) -> None:
    module, _, name = source.rpartition(".")
    typed = getattr(import_module(f"stripe.params.{module}"), name)
    assert set(typed.__annotations__) - ABOUT_THE_REQUEST <= spec.keys()


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"card": {"capture_method": "manual"}}, "[card][capture_method]"),
        ({"card": {"request_three_d_secure": "any"}}, "[card][request_three_d_secure]"),
        ({"card": {"setup_future_usage": "off_session"}}, "[card][setup_future_usage]"),
        (
            {"us_bank_account": {"setup_future_usage": "off_session"}},
            "[us_bank_account][setup_future_usage]",
        ),
    ],
)
async def test_an_option_that_would_move_money_otherwise_is_refused_by_name(
    rig: Any, ask: Any, params: dict[str, Any], param: str
) -> None:
    """https://docs.stripe.com/api/payment_intents/create#create_payment_intent-payment_method_options"""
    create = {"amount": 1000, "currency": "usd", "payment_method_options": params}
    refused = await ask.refused("payment_intents.create", create)
    assert (refused.http_status, refused.param) == (400, f"payment_method_options{param}")
    assert "The sandbox does not simulate" in refused.user_message
    assert rig.sandbox.events.all() == []


async def test_an_option_that_asks_for_nothing_is_taken(ask: Any) -> None:
    options = {
        "card": {"request_three_d_secure": "automatic", "network": "visa"},
        "klarna": {"preferred_locale": "en-US"},
    }
    create = {"amount": 1000, "currency": "usd", "payment_method_options": options}
    assert (await ask("payment_intents.create", create)).status == "requires_payment_method"
