"""Let a language model write prompts into a file that people review and specs name."""
