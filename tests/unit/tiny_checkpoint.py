"""Write tiny random checkpoints without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import read_model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_checkpoint(
    directory: Path, seed: int = 0, scale: float = 1.0, config: Mapping[str, object] | None = None
) -> Path:
    """Write a Hugging Face directory of `config` (llama's tiny one by default), with a byte-level tokenizer and a chat
    template.

    `scale` multiplies everything but biases: large ones would make the network's answer the same for every input.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = dict(FAMILIES["llama"].tiny_config if config is None else config)
    vocabulary = _save_tokenizer(directory)
    config |= {"vocab_size": vocabulary, "eos_token_id": vocabulary - 1, "bos_token_id": vocabulary - 2}
    (directory / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    parameters = read_model(SimpleNamespace(config=config, names=tuple)).parameters
    sources = {source.name: source.shape for parameter in parameters for source in parameter.sources}
    tensors = {
        name: random.standard_normal(shape, np.float32) * np.float32(0.1 if name.endswith("bias") else 0.1 * scale)
        for name, shape in sources.items()
    }
    save_file(tensors, directory / "model.safetensors")
    return directory


def _save_tokenizer(directory: Path) -> int:
    """Save a tokenizer with one token per byte and two that delimit messages; return the number of tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()
