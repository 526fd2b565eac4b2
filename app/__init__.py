"""The payment service: FastAPI routers, services that wrap the Stripe SDK, Motor repositories."""

__version__ = "1.0.0"
