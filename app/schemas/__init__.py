"""Request and response bodies, one file per router. Only here an amount is ``amount_cents``."""
