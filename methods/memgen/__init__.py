"""MemGen: latent memories woven into the token stream by adapters of the backbone's own weights."""
