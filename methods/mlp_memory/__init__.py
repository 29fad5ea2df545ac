"""MLP Memory (Wei et al. 2025, arXiv 2508.01832): a retriever distilled into a feed-forward network."""
