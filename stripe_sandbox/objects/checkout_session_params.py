"""The parameters of the Checkout Session endpoints (https://docs.stripe.com/api/checkout/sessions)."""

from stripe_sandbox.objects.payment_intent_params import CAPTURE_METHODS
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    NO_PAYMENT_METHOD_TYPES,
    NO_STATEMENT_DESCRIPTOR,
    PAYMENT_METHOD_OPTIONS,
    SHIPPING,
    Anything,
    Array,
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

# https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-locale
_LOCALES = (
    "auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr",
    "fr-CA", "hi-IN", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl",
    "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
)  # fmt: skip

_LINE_ITEM = Hash(
    {
        "adjustable_quantity": NotSimulated(({"enabled": "false"},)),
        "dynamic_tax_rates": NotSimulated(),
        "metadata": Metadata(),
        "price": Text(),
        "price_data": Hash(
            {
                "currency": Text(required=True),
                "product": Text(),
                "product_data": Hash(
                    {
                        "name": Text(required=True, max_length=5_000),
                        "description": Text(),
                        "images": Array(Url(), max_items=8),
                        "metadata": Metadata(),
                        "tax_code": Text(),
                        "unit_label": Text(),
                    }
                ),
                "recurring": NotSimulated(),
                "tax_behavior": OneOf(("exclusive", "inclusive", "unspecified")),
                "unit_amount": Integer(minimum=0),
                "unit_amount_decimal": Text(),
            }
        ),
        "quantity": Integer(minimum=1),
        "tax_rates": NotSimulated(("",)),
    }
)
CREATE: dict[str, Kind] = {
    "adaptive_pricing": NotSimulated(({"enabled": "false"},)),
    "after_expiration": NotSimulated(),
    "allow_promotion_codes": NotSimulated(("false",)),
    "allowed_payment_method_types": Array(Text()),
    "automatic_tax": NotSimulated(({"enabled": "false"},)),
    "billing_address_collection": OneOf(("auto", "required")),
    "branding_settings": Anything(),
    "cancel_url": Url(),
    "client_reference_id": Text(max_length=200),
    "consent_collection": NotSimulated(),
    "currency": Text(),
    "custom_fields": NotSimulated(("",)),
    "custom_text": Anything(),
    "customer": Text(),
    "customer_account": NotSimulated(),
    "customer_creation": OneOf(("always", "if_required")),
    "customer_email": Email(),
    "customer_update": NotSimulated(),
    "discounts": NotSimulated(("",)),
    "excluded_payment_method_types": Array(Text()),
    "expand": EXPAND,
    "expires_at": Integer(),
    "integration_identifier": Text(),
    "invoice_creation": NotSimulated(({"enabled": "false"},)),
    "line_items": Array(_LINE_ITEM, max_items=100),
    "locale": OneOf(_LOCALES, unsettable=True),
    "managed_payments": NotSimulated(({"enabled": "false"},)),
    "metadata": Metadata(),
    "mode": OneOf(("payment", "setup", "subscription")),
    "name_collection": NotSimulated(),
    "optional_items": NotSimulated(("",)),
    "origin_context": OneOf(("mobile_app", "web")),
    "payment_intent_data": Hash(
        {
            "application_fee_amount": NotSimulated(),
            "capture_method": OneOf(CAPTURE_METHODS),
            "description": Text(max_length=1_000),
            "metadata": Metadata(),
            "on_behalf_of": NotSimulated(),
            "receipt_email": Email(),
            "setup_future_usage": OneOf(("off_session", "on_session")),
            "shipping": SHIPPING,
            "statement_descriptor": NO_STATEMENT_DESCRIPTOR,
            "statement_descriptor_suffix": Descriptor(),
            "transfer_data": NotSimulated(),
            "transfer_group": Text(),
        }
    ),
    "payment_method_collection": OneOf(("always", "if_required")),
    "payment_method_configuration": NotSimulated(),
    "payment_method_data": Anything(),
    "payment_method_options": PAYMENT_METHOD_OPTIONS,
    "payment_method_types": NO_PAYMENT_METHOD_TYPES,
    "permissions": NotSimulated(),
    "phone_number_collection": NotSimulated(({"enabled": "false"},)),
    "redirect_on_completion": NotSimulated(),
    "return_url": NotSimulated(),
    "saved_payment_method_options": NotSimulated(),
    "setup_intent_data": NotSimulated(),
    "shipping_address_collection": NotSimulated(),
    "shipping_options": NotSimulated(("",)),
    "submit_type": OneOf(("auto", "book", "donate", "pay")),
    "subscription_data": NotSimulated(),
    "success_url": Url(),
    "tax_id_collection": NotSimulated(({"enabled": "false"},)),
    "ui_mode": OneOf(("hosted_page", "embedded_page", "elements", "form")),
    "wallet_options": Anything(),
}
UPDATE: dict[str, Kind] = {
    "collected_information": NotSimulated(),
    "expand": EXPAND,
    "line_items": NotSimulated(),
    "metadata": Metadata(),
    "payment_intent_data": NotSimulated(),
    "shipping_options": NotSimulated(("",)),
}
RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
EXPIRE: dict[str, Kind] = {"expand": EXPAND}
LINE_ITEMS: dict[str, Kind] = LIST_PARAMS
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "created": Range(),
    "customer": Text(),
    "customer_account": Text(),
    "customer_details": Hash({"email": Email(required=True)}),
    "payment_intent": Text(),
    "payment_link": Text(),
    "status": OneOf(("complete", "expired", "open")),
    "subscription": Text(),
}
