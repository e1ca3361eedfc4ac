"""From a network to a library: a spec and its storage formats go in, an IRModule is lowered, fused, scheduled and linked, a library comes out."""
