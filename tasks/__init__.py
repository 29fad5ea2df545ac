"""Benchmarks: one module or package each; every one implements `interface.Task`."""
