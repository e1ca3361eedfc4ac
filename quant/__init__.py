"""Storage of weights: formats, schemes, packing, and the conversion of checkpoints."""
