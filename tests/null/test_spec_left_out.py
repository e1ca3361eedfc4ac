"""No tensor is left out by its name alone: copies and buffers are compared first, and a head of its own is kept."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.derived import derived_names
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import Model, read_model
from argosy.quant.convert import check_sources
from argosy.support.errors import CheckpointError, UnsupportedModelError

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a head of its own."""
    directory = tmp_path_factory.mktemp("untied")
    LlamaForCausalLM(LlamaConfig(**dict(FAMILIES["llama"].tiny_config), tie_word_embeddings=False)).save_pretrained(
        directory
    )
    return directory


def changed(untied: Path, directory: Path, kind: str, tied: bool = True, form: str = "safetensors") -> Path:
    """Write the model again as if its config tied the head, which is `kind`."""
    config = json.loads((untied / "config.json").read_text())
    tensors = load_file(untied / "model.safetensors")
    if kind in ("copied", "another type"):
        tensors[HEAD] = tensors[EMBEDDING].clone().to(torch.float32 if kind == "copied" else torch.float64)
    elif kind == "one value apart":
        tensors[HEAD] = tensors[EMBEDDING].clone()
        tensors[HEAD][-1, -1] += 1
    elif kind == "of another shape":
        tensors[HEAD] = tensors[HEAD][:-1].clone()
    elif kind == "head alone":
        del tensors[EMBEDDING]
    elif kind == "embedding alone":
        del tensors[HEAD]
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    if form == "bin":
        if kind == "copied":
            tensors[HEAD] = tensors[EMBEDDING]  # one storage, as torch writes tied models
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


def read_and_checked(directory: Path) -> Model:
    checkpoint = open_checkpoint(directory)
    model = read_model(checkpoint)
    check_sources(model.parameters, checkpoint, model.ignorable)
    return model


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", ["own", "one value apart", "copied", "another type", "head alone", "embedding alone"])
def test_a_head_beside_a_tied_config_means_what_it_means_to_transformers(
    untied: Path, tmp_path: Path, kind: str, form: str
) -> None:
    directory = changed(untied, tmp_path / "model", kind, form=form)
    reference = AutoModelForCausalLM.from_pretrained(directory)
    tied = torch.equal(reference.lm_head.weight, reference.model.embed_tokens.weight)
    model = read_and_checked(directory)
    sources = {parameter.name: parameter.sources[0].name for parameter in model.parameters}
    assert model.spec.tied_embeddings is tied and ("lm_head" in sources) is not tied
    assert bool(model.notices) is not tied
    checkpoint = open_checkpoint(directory)
    for name, matrix in (
        ("model.embed_tokens", reference.model.embed_tokens.weight),
        ("lm_head", reference.lm_head.weight),
    ):
        if name in sources:
            assert np.array_equal(checkpoint.read(sources[name]), matrix.detach().float().numpy())
    assert model.ignorable == ((HEAD,) if kind in ("copied", "another type") else ())


def test_a_head_of_another_shape_is_refused(untied: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"other shapes than the config says: `lm_head\.weight` \[127, 64\]"):
        read_and_checked(changed(untied, tmp_path / "model", "of another shape"))


def test_an_untied_config_needs_its_head(untied: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks `lm_head\.weight`"):
        read_and_checked(changed(untied, tmp_path / "model", "embedding alone", tied=False))
    assert not read_and_checked(changed(untied, tmp_path / "other", "own", tied=False)).notices


class Tables:
    """A checkpoint that holds a tiny model's tensors, without values, and the values of `tables`."""

    def __init__(self, family: str, tables: dict[str, np.ndarray], **changes: object) -> None:
        self.config = {**copy.deepcopy(dict(FAMILIES[family].tiny_config)), **changes}
        self.tables = tables

    def names(self) -> tuple[str, ...]:
        return tuple(self.tables)

    def read(self, name: str) -> np.ndarray:
        return self.tables[name]

    def equal(self, one: str, other: str) -> bool:
        return np.array_equal(self.read(one), self.read(other))


FREQUENCIES = (10000.0 ** (-np.arange(0, 16, 2) / 16)).astype(np.float32)  # of the tiny llama
SCALED = {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
ANGLES = np.outer(np.arange(128), np.tile(FREQUENCIES, 2))
MASK = np.tril(np.ones((128, 128)))[None, None]
INVERSE = "model.layers.1.self_attn.rotary_emb.inv_freq"
COSINES = "model.layers.1.self_attn.rotary_emb.cos_cached"
SINES = "model.layers.1.self_attn.rotary_emb.sin_cached"


@pytest.mark.parametrize(
    ("family", "name", "values", "changes"),
    [
        ("llama", INVERSE, FREQUENCIES, {}),
        ("llama", INVERSE, FREQUENCIES.astype(np.float16), {}),
        ("llama", INVERSE, (FREQUENCIES.view(np.uint32) & 0xFFFF0000).view(np.float32), {}),  # as bfloat16 has them
        ("llama", INVERSE, FREQUENCIES, SCALED),
        ("llama", INVERSE, FREQUENCIES / 4, SCALED),
        ("llama", COSINES, np.cos(ANGLES)[None, None].astype(np.float16), {}),
        ("llama", SINES, np.sin(ANGLES)[None, None], {}),
        ("llama", SINES, np.sin(ANGLES), {}),
        ("gpt_neox", "gpt_neox.layers.1.attention.rotary_emb.inv_freq", np.array([1.0, 0.01]), {}),
        ("gpt_neox", "gpt_neox.layers.1.attention.bias", MASK.astype(bool), {}),
        ("gpt_neox", "gpt_neox.layers.1.attention.masked_bias", np.array(-1e9), {}),
        ("gpt2", "transformer.h.1.attn.bias", MASK.astype(np.float32), {}),
        ("gpt2", "h.1.attn.bias", MASK.astype(np.uint8), {}),
        ("gpt2", "h.1.attn.masked_bias", np.array([-10000.0], np.float16), {}),
        ("gpt2", "h.1.attn.masked_bias", np.array(-np.inf), {}),
    ],
)
def test_buffers_that_the_config_determines_are_left_out(
    family: str, name: str, values: np.ndarray, changes: dict[str, object]
) -> None:
    assert read_model(Tables(family, {name: values}, **changes)).ignorable == (name,)


WINDOW = np.triu(MASK[0, 0], -64)[None, None]


@pytest.mark.parametrize(
    ("family", "name", "values", "changes"),
    [
        ("llama", INVERSE, FREQUENCIES / 4, {}),  # a scaling that the config does not mention
        ("llama", INVERSE, (5e5 ** (-np.arange(0, 16, 2) / 16)), {}),  # another base
        ("llama", INVERSE, FREQUENCIES[:4], {}),
        ("llama", INVERSE, FREQUENCIES / 2, SCALED),
        ("llama", INVERSE, np.full(8, np.nan), {}),
        ("llama", COSINES, np.sin(ANGLES), {}),
        ("llama", SINES, np.sin(ANGLES / 4), {}),
        ("llama", SINES, np.zeros(3), {}),
        ("gpt2", "h.1.attn.bias", WINDOW, {}),  # hides what is far away
        ("gpt2", "h.1.attn.bias", np.ones((1, 1, 128, 128)), {}),
        ("gpt2", "h.1.attn.bias", 2 * MASK, {}),
        ("gpt2", "h.1.attn.bias", np.ones(64), {}),  # a true bias
        ("gpt2", "h.1.attn.masked_bias", np.array(0.0), {}),
        ("gpt2", "h.1.attn.masked_bias", np.array(np.nan), {}),
        ("gpt_neox", "gpt_neox.layers.0.attention.bias", np.repeat(MASK, 2, 1), {}),
    ],
)
def test_others_of_their_names_are_refused(
    family: str, name: str, values: np.ndarray, changes: dict[str, object]
) -> None:
    with pytest.raises(UnsupportedModelError, match="that the config determines") as caught:
        read_model(Tables(family, {name: values}, **changes))
    assert name in caught.value.message and caught.value.hint


@pytest.mark.parametrize("family", FAMILIES)
def test_no_tensor_that_matters_has_the_name_of_a_buffer(family: str) -> None:
    model = read_model(Tables(family, {}))
    names = [source.name for parameter in model.parameters for source in parameter.sources]
    unread: dict[str, np.ndarray] = {}
    assert derived_names(names, FAMILIES[family].names.derived, Tables(family, unread), ()) == ()


@pytest.mark.parametrize("name", ["mtp.layers.0.weight", "model.layers.2.self_attn.q_proj.weight", "v_head.weight"])
def test_what_no_rule_knows_is_left_over(name: str) -> None:
    assert read_model(Tables("llama", {name: np.zeros(1)})).ignorable == ()
