"""The generate stage: makes the synthetic dataset, shard by shard."""
