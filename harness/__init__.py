"""`deltamem_eval`: how well, and at what cost, a language model remembers."""

__version__ = "0.1.0"
