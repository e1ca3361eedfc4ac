"""Say what helps against a context window that is too small."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.support.errors import ArgosyError, ContextFullError, UsageError

if TYPE_CHECKING:
    from argosy.dist.artefact import Artefact
    from argosy.runtime_bindings.chat.module import ChatModule


def check_window(directory: Path, wanted: int | None) -> None:
    """Raise UsageError for a `--context-window` that the artefact in `directory` cannot have."""
    if wanted is None:
        return
    from argosy.dist.artefact import open_artefact

    artefact = open_artefact(directory)
    built = artefact.config.context_window_size
    if wanted > built:
        sentence = f"`--context-window {wanted}` is more than the {built} tokens that `{artefact.name}` was built for"
        raise UsageError(sentence, _larger(artefact, wanted) or "that is this model's own limit")


@contextlib.contextmanager
def explained(model: ChatModule) -> Iterator[None]:
    """Give a ContextFullError of the block the hint that helps this model."""
    try:
        yield
    except ContextFullError as error:
        built, used = model.artefact.config.context_window_size, model.model.context_window
        if used < built:
            hint = f"shorten it, or give it more room: --context-window {built}"
        else:
            larger = _larger(model.artefact)
            hint = f"shorten it, or build with a larger window: {larger}" if larger else "shorten it"
        raise ContextFullError(error.message, hint) from None


def _larger(artefact: Artefact, wanted: int | None = None) -> str | None:
    """Return the command that builds the model with a window of `wanted` tokens, or its largest; None if none is."""
    from argosy.dist.naming import build_command

    manifest, built = artefact.manifest, artefact.config.context_window_size
    limit = None if manifest is None else own_limit(artefact)
    if manifest is None or limit is None or limit <= built or (wanted or 0) > limit:
        return None
    options = {**(manifest.options or {}), "context-window": str(wanted or limit)}
    return build_command(manifest.model, ",".join(manifest.libraries) or "cpu", manifest.quantization, options=options)


def own_limit(artefact: Artefact) -> int | None:
    """Return the most tokens that the model itself can have in a conversation, or None if that is not known."""
    from argosy.model_defs.read import read_spec

    try:
        return read_spec(artefact.config.model_config).context_window
    except ArgosyError:
        return None
