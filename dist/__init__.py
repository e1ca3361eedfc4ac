"""Artefacts: what a build writes and what a runtime opens (libraries, weights, tokenizer, configs, manifest)."""
