"""The parameters of the PaymentIntent endpoints (https://docs.stripe.com/api/payment_intents)."""

from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    NO_PAYMENT_METHOD_TYPES,
    NO_STATEMENT_DESCRIPTOR,
    PAYMENT_METHOD_OPTIONS,
    SHIPPING,
    Anything,
    Array,
    Boolean,
    Descriptor,
    Email,
    Hash,
    Integer,
    Kind,
    Metadata,
    NotSimulated,
    OneOf,
    Range,
    Text,
    Url,
)

CAPTURE_METHODS = ("automatic", "automatic_async", "manual")

_SHARED: dict[str, Kind] = {
    "allowed_payment_method_types": Array(Text()),
    "amount_details": Anything(),
    "application_fee_amount": NotSimulated(),
    "capture_method": OneOf(CAPTURE_METHODS),
    "customer": Text(),
    "customer_account": NotSimulated(),
    "description": Text(unsettable=True, max_length=1_000),
    "excluded_payment_method_types": Array(Text()),
    "expand": EXPAND,
    "hooks": NotSimulated(),
    "metadata": Metadata(),
    "payment_details": Anything(),
    "payment_method": Text(),
    "payment_method_data": NotSimulated(),
    "payment_method_options": PAYMENT_METHOD_OPTIONS,
    "payment_method_types": NO_PAYMENT_METHOD_TYPES,
    "receipt_email": Email(unsettable=True),
    "setup_future_usage": OneOf(("off_session", "on_session"), unsettable=True),
    "shipping": SHIPPING,
    "statement_descriptor": NO_STATEMENT_DESCRIPTOR,
    "statement_descriptor_suffix": Descriptor(),
    "transfer_data": NotSimulated(),
    "transfer_group": Text(),
}
_CONFIRMING: dict[str, Kind] = {
    "confirmation_token": NotSimulated(),
    "error_on_requires_action": Boolean(),
    "mandate": NotSimulated(),
    "mandate_data": Anything(),
    "off_session": Boolean(),
    "radar_options": Anything(),
    "return_url": Url(),
    "use_stripe_sdk": Boolean(),
}
CREATE: dict[str, Kind] = {
    **_SHARED,
    **_CONFIRMING,
    "amount": Integer(required=True, minimum=1),
    "automatic_payment_methods": Hash(
        {"enabled": Boolean(required=True), "allow_redirects": OneOf(("always", "never"))}
    ),
    "confirm": Boolean(),
    "confirmation_method": OneOf(("automatic", "manual")),
    "currency": Text(required=True),
    "on_behalf_of": NotSimulated(),
    "payment_method_configuration": NotSimulated(),
}
UPDATE: dict[str, Kind] = {
    **_SHARED,
    "amount": Integer(minimum=1),
    "currency": Text(),
    "payment_method_configuration": NotSimulated(),
}
CONFIRM: dict[str, Kind] = {
    **{
        name: _SHARED[name]
        for name in (
            "allowed_payment_method_types",
            "amount_details",
            "capture_method",
            "excluded_payment_method_types",
            "expand",
            "hooks",
            "payment_details",
            "payment_method",
            "payment_method_data",
            "payment_method_options",
            "payment_method_types",
            "receipt_email",
            "setup_future_usage",
            "shipping",
        )
    },
    **_CONFIRMING,
    "amount_to_confirm": NotSimulated(),
    "client_secret": Text(),
}
CAPTURE: dict[str, Kind] = {
    "amount_to_capture": Integer(minimum=1),
    "amount_details": Anything(),
    "application_fee_amount": NotSimulated(),
    "expand": EXPAND,
    "final_capture": Boolean(),
    "hooks": NotSimulated(),
    "metadata": Metadata(),
    "payment_details": Anything(),
    "statement_descriptor": NO_STATEMENT_DESCRIPTOR,
    "statement_descriptor_suffix": Descriptor(),
    "transfer_data": NotSimulated(),
}
CANCEL: dict[str, Kind] = {
    "cancellation_reason": OneOf(("duplicate", "fraudulent", "requested_by_customer", "abandoned")),
    "expand": EXPAND,
}
RETRIEVE: dict[str, Kind] = {"client_secret": Text(), "expand": EXPAND}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "created": Range(),
    "customer": Text(),
    "customer_account": Text(),
}
