"""Builders of rows in MemoryAgentBench's schema from raw public data sets, and checks of such rows."""
