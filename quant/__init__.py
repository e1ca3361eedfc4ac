"""How weights are stored: a float matrix and a scheme go in, packed words, scales and (where the format has them) minima come out."""
