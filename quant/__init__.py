"""How weights are stored: a float matrix and a scheme go in; packed words, scales and minima come out."""
