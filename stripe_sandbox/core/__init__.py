"""What has no knowledge of Stripe's API: time, ids, settings, API objects as data, the store."""
