"""Samples as the bytes of one file, and back: pure, deterministic, without Ray or torch."""
