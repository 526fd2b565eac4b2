"""How Stripe speaks: wire format, parameters, money, errors, lists, idempotency, rate limits."""
