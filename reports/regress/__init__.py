"""A run against a baseline: what counts as worse, and saying so to people, to CI and to code hosts."""
