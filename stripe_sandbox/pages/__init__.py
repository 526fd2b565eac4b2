"""What browsers are shown: hosted checkout, 3-D Secure, the dashboard, Stripe.js."""
