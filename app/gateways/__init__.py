"""What we need of the payment provider (payments.py), and Stripe behind it (stripe.py)."""
