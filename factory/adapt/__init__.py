"""Teach a text-to-image model one concept a class, from a few real images of each."""
