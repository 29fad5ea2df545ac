"""Two runs question by question: what may be paired, the differences, and their tables."""
