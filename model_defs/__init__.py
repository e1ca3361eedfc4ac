"""Models: reading checkpoints, describing networks, and the modules that compute them."""
