"""The kinds of network: what the compiler needs to know of each, and the module that computes it."""
