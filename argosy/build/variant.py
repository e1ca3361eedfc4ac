"""Tell builds of one model apart that differ in their options, so that none replaces another unasked.

The options that are not the defaults are part of the directory's default name, and recorded in the manifest.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.build.request import ROUNDINGS, BuildRequest, Stage
from argosy.dist.naming import option_words
from argosy.support.errors import ArtefactError
from argosy.support.user_files import absolute

if TYPE_CHECKING:
    from argosy.compiler.bounds import Bounds
    from argosy.compiler.targets.entry import TargetEntry
    from argosy.dist.manifest import Manifest
    from argosy.model_defs.networks.network import Network

_BOUNDS = ("context-window", "prefill-chunk", "max-batch")
STAGE_OPTIONS: dict[Stage, tuple[str, ...]] = {
    "weights": ("rounding",), "config": _BOUNDS, "library": (*_BOUNDS, "activations", "kv"),
}  # fmt: skip
"""The options that the files of a stage depend on."""


def chosen_options(
    request: BuildRequest, bounds: Bounds, network: Network, scheme: str, targets: Sequence[TargetEntry]
) -> dict[str, str]:
    """Return the options of `request` that are not the defaults, by name; `bounds` are those that it comes to."""
    from argosy.compiler.bounds import bounds_for

    usual, chunk = bounds_for(network), bounds_for(network, bounds.context_window).prefill_chunk
    found = {} if request.rounding == ROUNDINGS[0] else {"rounding": request.rounding}
    for name, value, default in zip(
        _BOUNDS,
        (bounds.context_window, bounds.prefill_chunk, bounds.max_batch),
        (usual.context_window, chunk, usual.max_batch),
        strict=True,
    ):
        if value != default:
            found[name] = str(value)
    for name, given in request.target_options().items():
        if any(entry.settings(scheme, {}).get(name, given) != given for entry in targets):
            found[name] = given
    return found


def merged_options(found: Manifest | None, asked: Mapping[str, str], stages: Sequence[Stage]) -> dict[str, str]:
    """Return the options that hold once `stages` are built with `asked`; the other stages stay as they are."""
    kept = {} if found is None or found.options is None else found.options
    own = _options_of(stages)
    others = _options_of(_recorded(found)) - own
    return {name: value for name, value in kept.items() if name in others} | {
        name: value for name, value in asked.items() if name in own
    }


def difference(
    found: Manifest, name: str, digest: str, asked: Mapping[str, str], stages: Sequence[Stage], directory: Path
) -> str | None:
    """Describe how the artefact in `directory` differs from what is asked for, as a sentence, or return None.

    A checkpoint that has changed since is no other model.
    """
    if found.checkpoint_digest != digest and _path(found.model) != _path(name):
        return f"`{directory}` holds the model `{found.model}`, and this is another one"
    if found.options is None:  # written before options were recorded
        return None
    shared = _options_of(_recorded(found)) & _options_of(stages)
    if all(found.options.get(option) == asked.get(option) for option in shared):
        return None
    was, now = ({key: value for key, value in options.items() if key in shared} for options in (found.options, asked))
    return f"`{directory}` was built with {_spoken(was)}, and this build has {_spoken(now)}"


def refusal(sentence: str, directory: Path) -> ArtefactError:
    """Return the error for a build that would replace another one."""
    beside = shlex.quote(f"{directory}-2")
    return ArtefactError(sentence, f"`--output {beside}` builds beside it, `--force` replaces it")


def _spoken(options: Mapping[str, str]) -> str:
    return f"`{shlex.join(option_words(options))}`" if options else "the default options"


def _options_of(stages: Sequence[Stage]) -> set[str]:
    return {option for stage in stages for option in STAGE_OPTIONS[stage]}


def _recorded(found: Manifest | None) -> list[Stage]:
    if found is None:
        return []
    stages: dict[Stage, object] = {"weights": found.weights, "config": found.config, "library": found.libraries}
    return [stage for stage, record in stages.items() if record]


def _path(model: str) -> str:
    """Return a model's path in one form, and its name as it is."""
    return str(absolute(Path(model))) if os.path.exists(os.path.expanduser(model)) else model
