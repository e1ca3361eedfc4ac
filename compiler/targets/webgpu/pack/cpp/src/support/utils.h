// The runtime includes this header and, in what the pack compiles, uses nothing of it.
