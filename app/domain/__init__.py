"""Plain dataclasses and rules. No I/O; besides the standard library only app.errors."""
