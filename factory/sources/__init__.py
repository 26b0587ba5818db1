"""Real datasets: where they lie, what they hold, and parts of them."""
