"""LLMLingua-2 (Pan et al. 2024, arXiv 2403.12968) through the llmlingua package."""
