"""Measure the perplexity and the KL divergence of an artefact against a reference, on a text."""
