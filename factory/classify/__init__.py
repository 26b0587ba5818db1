"""Train classifiers on mixes of real and synthetic images, and compare them."""
