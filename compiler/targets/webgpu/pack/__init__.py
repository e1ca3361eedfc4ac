"""The runtime pack: what a WebGPU library needs besides its model, compiled once and linked into each."""
