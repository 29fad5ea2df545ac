"""The generator of episodes, and the tiny backbone and adapters trained on them."""
