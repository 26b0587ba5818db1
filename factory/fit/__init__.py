"""Train a diffusion model on a real source."""
