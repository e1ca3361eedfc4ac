"""Read the rope settings of a config, and fold every scaling into a `RopeSpec`.

Both spellings are read: `rope_theta` beside `rope_scaling`, and the newer `rope_parameters`, flat or by layer type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from argosy.model_defs.components.rope import RopeSpec
from argosy.model_defs.config import LIMIT, Config
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """The rope settings of one kind of layer, before they become frequencies.

    `trained` is `original_max_position_embeddings`, the context before it was extended; `positions` is
    `max_position_embeddings`, the context the config promises.
    """

    kind: str
    theta: float
    rotary_dim: int
    trained: int
    positions: int
    values: Config

    @property
    def longest(self) -> int:
        """The longest context window that may be chosen: some configs promise less than their extension gives."""
        if self.kind not in ("linear", "yarn"):
            return self.positions
        return max(self.positions, int(min(_factor(self) * self.trained, LIMIT)))


def read_settings(
    config: Config,
    head_dim: int,
    *,
    positions: int,
    trained: int | None = None,
    layer_type: str | None = None,
    theta_key: str = "rope_theta",
    theta: float = 10000.0,
    partial_key: str = "partial_rotary_factor",
    partial: float | None = None,
    aliases: Mapping[str, str] | None = None,
    scaled: bool = True,
) -> RopeSettings:
    """Read the rope settings of `config` for layers of `layer_type`.

    `theta`, `partial` and `trained` are the family's defaults (`partial` None: the family always rotates whole heads),
    `theta_key` and `partial_key` its spelling outside the rope section, `aliases` its other names for rope types.
    `scaled` False: `rope_scaling` belongs to another layer type.
    """
    values = _section(config, layer_type, scaled)
    kind = values.text("rope_type", values.text("type", "default"))
    kind = (aliases or {}).get(kind, kind)
    if kind not in ROPES:
        raise UnsupportedModelError(f"rope type `{one_line(kind)}` is not supported", f"one of: {', '.join(ROPES)}")
    values.only("mrope_section")
    base = values.positive("rope_theta", config.positive(theta_key, theta))
    if base <= 1:
        raise CheckpointError(f"`rope_theta` in `config.json` is `{base}`, which is not above one")
    key = "original_max_position_embeddings"
    before = config.integer(key) if key in config else values.integer(key, trained or positions)
    rotary_dim = _rotary_dim(config, values, head_dim, partial_key, partial)
    return RopeSettings(kind, base, rotary_dim, before, positions, values)


def _section(config: Config, layer_type: str | None, scaled: bool) -> Config:
    """Return the rope settings for `layer_type` alone, from whichever section of `config` has them."""
    new, old = config.section("rope_parameters"), config.section("rope_scaling")
    values = dict(new.values) if new is not None else {}
    if layer_type is not None and new is not None and values:
        if any(not isinstance(value, Mapping) for value in values.values() if value is not None):
            raise UnsupportedModelError("`rope_parameters` without a section for each layer type is not supported")
        section = new.section(layer_type)
        values = dict(section.values) if section is not None else {}
    if old is not None and scaled:
        values.update(old.values)
    if any(isinstance(value, Mapping) for value in values.values()):
        raise UnsupportedModelError("a rope for each layer type is not supported for this model type")
    return Config(values)


def _rotary_dim(config: Config, values: Config, head_dim: int, partial_key: str, partial: float | None) -> int:
    if partial is None:
        values.only("partial_rotary_factor", 1.0)
        config.only(partial_key, 1.0)
        rotary_dim = head_dim
    else:
        share = values.positive("partial_rotary_factor", config.positive(partial_key, partial))
        rotary_dim = int(head_dim * min(share, 2.0))
    if rotary_dim % 2 or not 2 <= rotary_dim <= head_dim:
        raise UnsupportedModelError(f"rotating `{rotary_dim}` of {head_dim} dimensions of a head is not supported")
    return rotary_dim


def rope_spec(settings: RopeSettings, context_window: int) -> RopeSpec:
    """Compute the frequencies of `settings` for a context window of `context_window` tokens.

    Frequencies are rounded to 32-bit floats, which is what the reference implementations compute in.
    """
    frequencies, magnitude = ROPES[settings.kind](settings, context_window)
    with np.errstate(over="ignore", under="ignore"):
        rounded = tuple(np.array(frequencies).astype(np.float32).tolist())
    if not all(0 < f < math.inf for f in rounded):
        raise CheckpointError(f"the settings of rope type `{settings.kind}` give frequencies that are not finite")
    return RopeSpec(settings.rotary_dim, rounded, magnitude)


def _plain(s: RopeSettings) -> list[float]:
    """Return theta^(-2i/d), Su et al. 2021 (RoFormer)."""
    return [s.theta ** (-i / s.rotary_dim) for i in range(0, s.rotary_dim, 2)]


def _factor(s: RopeSettings) -> float:
    """Return how many times longer the context became."""
    return s.values.positive("factor", s.positions / s.trained)


def _default(s: RopeSettings, context_window: int) -> tuple[list[float], float]:
    return _plain(s), 1.0


def _linear(s: RopeSettings, context_window: int) -> tuple[list[float], float]:
    """Divide positions by a factor: Chen et al. 2023."""
    factor = s.values.positive("factor")
    return [f / factor for f in _plain(s)], 1.0


def _llama3(s: RopeSettings, context_window: int) -> tuple[list[float], float]:
    """Slow down long waves, keep short ones and interpolate between: Llama 3.1."""
    factor = s.values.positive("factor")
    low, high = s.values.positive("low_freq_factor"), s.values.positive("high_freq_factor")
    if low >= high:
        raise CheckpointError(f"`low_freq_factor` `{low}` is not below `high_freq_factor` `{high}`")

    def scaled(frequency: float) -> float:
        turns = s.trained * frequency / (2 * math.pi)  # this pair makes, within the trained context
        keep = min(max((turns - low) / (high - low), 0.0), 1.0)
        return keep * frequency + (1 - keep) * frequency / factor

    return [scaled(f) for f in _plain(s)], 1.0


def _yarn(s: RopeSettings, context_window: int) -> tuple[list[float], float]:
    """Ramp over the dimensions from kept to slowed-down pairs, with hotter attention: YaRN, Peng et al. 2023."""
    values, d, factor = s.values, s.rotary_dim, _factor(s)

    def dimension(rotations: float) -> float:
        """Return the pair that turns `rotations` times within the trained context."""
        return d * (math.log(s.trained) - math.log(rotations) - math.log(2 * math.pi)) / (2 * math.log(s.theta))

    low = dimension(values.positive("beta_fast", 32.0))
    high = dimension(values.positive("beta_slow", 1.0))
    if values.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    width = high - low if high != low else 0.001

    def scaled(i: int, frequency: float) -> float:
        slow = min(max((i - low) / width, 0.0), 1.0)
        return slow * frequency / factor + (1 - slow) * frequency

    def heat(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if "attention_factor" in values:
        magnitude = values.positive("attention_factor")
    elif values.number("mscale", 0.0) and values.number("mscale_all_dim", 0.0):
        magnitude = heat(values.positive("mscale")) / heat(values.positive("mscale_all_dim"))
    else:
        magnitude = heat(1.0)
    return [scaled(i, f) for i, f in enumerate(_plain(s))], magnitude


def _longrope(s: RopeSettings, context_window: int) -> tuple[list[float], float]:
    """Divide each pair by a factor of its own, from one of two sets: LongRoPE, Ding et al. 2024.

    The context window of the library decides once which set is used: the short factors if it is within the trained
    context, else the long ones. (The reference switches while it runs, when a sequence outgrows the trained context;
    keys that are already in a cache would then be wrong.)
    """
    short = context_window <= s.trained
    pairs = s.rotary_dim // 2
    long_factors, short_factors = s.values.numbers("long_factor", pairs), s.values.numbers("short_factor", pairs)
    factor = _factor(s)
    hotter = math.sqrt(1 + math.log(factor) / math.log(s.trained)) if factor > 1 and s.trained > 1 else 1.0
    magnitude = s.values.positive("attention_factor", hotter)
    return [f / e for f, e in zip(_plain(s), short_factors if short else long_factors, strict=True)], magnitude


ROPES: dict[str, Callable[[RopeSettings, int], tuple[list[float], float]]] = {
    "default": _default,
    "linear": _linear,
    # "dynamic" grows theta only beyond max_position_embeddings, which no context window of ours exceeds.
    "dynamic": _default,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
