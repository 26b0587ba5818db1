"""Networks that draw: one file a system."""
