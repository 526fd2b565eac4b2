"""The API under ``/v1``: which request does what, and everything around doing it."""
