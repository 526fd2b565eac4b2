"""Webhook endpoints, and the signed delivery of events to them."""

from stripe_sandbox.webhooks.dispatcher import sign

__all__ = ["sign"]
