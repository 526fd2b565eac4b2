"""Webhook Endpoints, registered by API (https://docs.stripe.com/api/webhook_endpoints)."""

from dataclasses import replace
from pathlib import Path

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.config import WebhookEndpointConfig
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    Array,
    Boolean,
    Kind,
    Metadata,
    NotSimulated,
    OneOf,
    Params,
    Text,
    Url,
    merge_metadata,
)
from stripe_sandbox.webhooks.dispatcher import Endpoint, WebhookDispatcher

EVENT_TYPES = tuple(Path(__file__).with_name("event_types.txt").read_text(encoding="utf-8").split())
"""What an endpoint may ask for (https://docs.stripe.com/api/events/types)."""
MAX_ENDPOINTS = 16
"""https://docs.stripe.com/webhooks"""

_ENABLED = OneOf(EVENT_TYPES)
CREATE: dict[str, Kind] = {
    "api_version": Text(),
    "connect": NotSimulated(("false",)),
    "description": Text(unsettable=True),
    "enabled_events": Array(_ENABLED, required=True),
    "expand": EXPAND,
    "metadata": Metadata(),
    "url": Url(required=True),
}
UPDATE: dict[str, Kind] = {
    "description": Text(unsettable=True),
    "disabled": Boolean(),
    "enabled_events": Array(_ENABLED),
    "expand": EXPAND,
    "metadata": Metadata(),
    "url": Url(),
}
RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
DELETE: dict[str, Kind] = {}
LIST: dict[str, Kind] = LIST_PARAMS


class WebhookEndpoints(Resource[Endpoint]):
    """The API's view of the dispatcher's endpoints, configured ones included."""

    url = "/v1/webhook_endpoints"
    noun = "webhook endpoint"
    id_param = "webhook_endpoint"

    def __init__(self, account: Account, dispatcher: WebhookDispatcher) -> None:
        super().__init__(account, dispatcher.registry)
        self._dispatcher = dispatcher

    def create(self, params: Params) -> StripeObject:
        """The answer is the only one that tells the secret."""
        if not params["enabled_events"]:
            raise ApiError(
                400,
                "Missing required param: enabled_events.",
                code="parameter_missing",
                param="enabled_events",
            )
        if len(self._dispatcher.endpoints) >= MAX_ENDPOINTS:
            raise ApiError(
                400, f"You have reached the maximum of {MAX_ENDPOINTS} test webhook endpoints."
            )
        secret = f"whsec_{self._ids.token(32)}"
        endpoint = self._dispatcher.add_endpoint(
            WebhookEndpointConfig(
                url=params["url"],
                secret=secret,
                enabled_events=tuple(params["enabled_events"]),
                api_version=params.get("api_version"),
            ),
            description=params.get("description"),
            metadata=merge_metadata({}, params.get("metadata")),
        )
        return {**endpoint.data, "secret": secret}

    def update(self, params: Params, id: str) -> StripeObject:
        endpoint = self.named(id)
        metadata = merge_metadata(endpoint.data["metadata"], params.get("metadata"))
        shown: StripeObject = {
            name: params[name] for name in ("description", "url") if name in params
        }
        if params.get("enabled_events"):
            shown["enabled_events"] = params["enabled_events"]
        if "disabled" in params:
            shown["status"] = "disabled" if params["disabled"] else "enabled"
        endpoint.data.update(shown, metadata=metadata)
        endpoint.config = replace(
            endpoint.config,
            url=endpoint.data["url"],
            enabled_events=tuple(endpoint.data["enabled_events"]),
        )
        return endpoint.data

    def delete(self, params: Params, id: str) -> StripeObject:
        """Nothing more is sent there, retries included."""
        self._dispatcher.remove_endpoint(self.named(id).id)
        return {"id": id, "object": "webhook_endpoint", "deleted": True}
