"""Understand words that other programs have taught people: commands by another name, options by another name."""

from __future__ import annotations

# Word -> our command, which takes the same arguments.
SAME: dict[str, str] = {
    "show": "inspect", "info": "inspect", "models": "list", "remove": "rm", "delete": "rm", "uninstall": "rm",
    "download": "pull", "install": "pull", "create": "build", "benchmark": "bench", "evaluate": "eval",
    "perplexity": "eval", "convert_weight": "convert", "convert-weight": "convert", "gen_config": "config",
    "gen-config": "config", "tokenise": "tokenize",
}  # fmt: skip

# Word -> what to do instead, for words without a command that takes the same arguments.
INSTEAD: dict[str, str] = {
    "generate": "argosy chat MODEL PROMPT",
    "prompt": "argosy chat MODEL PROMPT",
    "complete": "argosy chat MODEL PROMPT",
    "ask": "argosy chat MODEL PROMPT",
    "quantize": "argosy build --model MODEL --quantization SCHEME",
    "stop": "nothing runs in the background: Ctrl-C ends a command",
    "kill": "nothing runs in the background: Ctrl-C ends a command",
    "cp": "argosy build --model MODEL --output DIR",
    "push": "an artefact is a directory: copy it",
    "search": "argosy list models",
    "update": "pip install --upgrade ./argosy-VERSION.whl, with a newer wheel",
    "upgrade": "pip install --upgrade ./argosy-VERSION.whl, with a newer wheel",
    "logs": "argosy keeps no logs of conversations; /save keeps one",
    "embed": "argosy has no embeddings",
    "version": "argosy --version",
}

# Option of another program -> ours.
OPTIONS: dict[str, str] = {
    "--max-new-tokens": "--max-tokens", "--n-predict": "--max-tokens", "--num-predict": "--max-tokens",
    "--num-tokens": "--max-tokens", "--system-prompt": "--system", "--ctx-size": "--context-window",
    "--num-ctx": "--context-window", "--context-length": "--context-window", "--max-kv-size": "--context-window",
    "--repeat-penalty": "--repetition-penalty", "--logit-bias-list": "--logit-bias", "--quiet": "ARGOSY_PROGRESS=off",
    "--quant": "--quantization", "--output-dir": "--output", "--outfile": "--output", "--top-p-sampling": "--top-p",
    "--random-seed": "--seed", "--num-threads": "--threads", "--n-threads": "--threads", "--format": "--json",
    "--device": "--target", "--no-wordwrap": "--no-wrap", "--nowordwrap": "--no-wrap",
}  # fmt: skip
