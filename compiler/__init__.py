"""Compile a network and its storage formats to a linked library."""
