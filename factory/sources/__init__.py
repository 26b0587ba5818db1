"""Datasets that take part, real or synthetic: where they lie, what they hold, parts of them."""
