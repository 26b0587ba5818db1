"""A Ray-distributed factory for labelled synthetic image datasets."""

__version__ = "0.1.0"
