"""Memory methods: one module or package each; every one implements `interface.MemoryMethod`."""
