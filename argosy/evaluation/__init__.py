"""Evaluation: an artefact, a reference and a text go in; perplexity and KL divergence come out."""
