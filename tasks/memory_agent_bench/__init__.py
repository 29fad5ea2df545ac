"""MemoryAgentBench: its row schema, metrics and task."""
