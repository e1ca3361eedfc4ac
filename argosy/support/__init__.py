"""Errors, environment, files and text: what all packages may import, and what imports none of them."""
