"""The runtime pack: everything that a library needs besides its model, compiled once and linked into each library."""
