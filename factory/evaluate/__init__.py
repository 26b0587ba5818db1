"""Measure synthetic datasets against real images, and show them side by side."""
