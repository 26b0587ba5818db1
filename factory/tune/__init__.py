"""Search the mix: a conductor of the stages generate and classify."""
