"""Tracked result tables; what the paper prints travels with the package."""
