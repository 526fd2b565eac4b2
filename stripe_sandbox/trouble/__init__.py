"""What goes wrong on demand: faults of API requests and of webhook deliveries."""
