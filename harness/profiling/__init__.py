"""Measuring what a model costs while it runs."""
