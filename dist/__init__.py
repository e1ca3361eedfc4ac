"""Write and open artefacts: libraries, weights, tokenizer, configs and manifest in one directory."""
