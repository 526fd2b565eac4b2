"""Stripe's objects and what they do to each other: one module for each resource of the API."""
