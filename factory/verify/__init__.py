"""The verify stage: compares what a root holds with what its spec and records promise."""
