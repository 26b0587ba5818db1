"""The mathematics of fidelity and of evidence."""
