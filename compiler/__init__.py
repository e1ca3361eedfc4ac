"""From a network to a library: a spec and its storage formats go in, a compiled and linked library comes out."""
