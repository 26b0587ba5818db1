"""The publish stage: puts a dataset on the Hugging Face Hub, all of it or nothing."""
