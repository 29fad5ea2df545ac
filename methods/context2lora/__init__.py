"""Context2LoRA: a context, or a way of reading contexts, kept in low-rank adapters (Hu et al. 2022)."""
