"""Read the settings of answers that a model's makers recommend, under the names of transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from argosy.dist.records import Fields
from argosy.dist.sampling import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_MIN_P,
    DEFAULT_REPEAT_LAST_N,
    DEFAULT_TEMPERATURE,
    DEFAULT_TOP_P,
    INTEGER_RANGES,
    MAX_BAD_WORD_TOKENS,
    MAX_BAD_WORDS,
    MAX_BANNED,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    RANGES,
    allowed,
    is_allowed,
)
from argosy.support.text import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedSettings:
    """The settings of an answer for which the user asks nothing else, under the names of the runtime's settings."""

    temperature: float = DEFAULT_TEMPERATURE
    top_p: float = DEFAULT_TOP_P
    top_k: int = 0
    min_p: float = DEFAULT_MIN_P
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    repeat_last_n: int = DEFAULT_REPEAT_LAST_N
    no_repeat_ngram_size: int = 0
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int = DEFAULT_MAX_TOKENS


# Written to an artefact even at their default values: runtimes of MLC look them up.
_ALWAYS_WRITTEN = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"}
)
# With one of these, the makers have chosen a distribution: the others are then off, and not the defaults above.
CUTS: dict[str, float] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "typical_p": 1.0}
TOP_K_OF_TRANSFORMERS = 50  # where nothing else is said; so it belongs to what the makers have tried
# Settings of transformers, and of GGUF files, that are not supported here, with the values that change nothing.
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "num_beams": (1,), "num_beam_groups": (1,), "num_return_sequences": (1,), "penalty_alpha": (0,),
    "dola_layers": (), "guidance_scale": (1,), "epsilon_cutoff": (0,), "eta_cutoff": (0,), "top_h": (1,),
    "encoder_repetition_penalty": (1,), "encoder_no_repeat_ngram_size": (0,), "min_length": (0,),
    "min_new_tokens": (0,), "max_time": (), "sequence_bias": ([], {}), "force_words_ids": ([],),
    "constraints": ([],), "forced_bos_token_id": (), "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (), "token_healing": (False,), "watermarking_config": ({},),
    "mirostat": (0,), "xtc_probability": (0,),
}  # fmt: skip
# What `config.json` says where nobody chose anything: older versions of transformers wrote out all of their defaults.
_UNCHOSEN: dict[str, object] = {
    "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0, "suppress_tokens": None, "begin_suppress_tokens": None, "bad_words_ids": None,
}  # fmt: skip


def chosen_in_config(config: Mapping[str, object]) -> dict[str, object]:
    """Return the settings in the `config.json` of a model without a `generation_config.json`, where they were kept
    before there was one."""
    text = config.get("text_config")
    found = {**(text if isinstance(text, dict) else {}), **config}
    return {name: found[name] for name, unchosen in _UNCHOSEN.items() if name in found and found[name] != unchosen}


def recommended(
    generation: Mapping[str, object], *, vocab_size: int, context_window: int, ends: Iterable[int] = ()
) -> tuple[RecommendedSettings, tuple[str, ...]]:
    """Return what `generation`, the content of a `generation_config.json`, says of sampling and of the end of answers.

    A value that cannot be used is left out. The notes name these values, and what is not supported, for the person who
    builds. `ends` are the tokens that end an answer, which no list of bad words bans.
    """
    reader = _Reader(generation, vocab_size)
    reader.note_unsupported(context_window)
    repetition = reader.number("repetition_penalty", 1.0)
    window = DEFAULT_REPEAT_LAST_N if repetition == 1.0 else -1  # transformers has no window
    settings = RecommendedSettings(
        **reader.cuts(),
        presence_penalty=reader.number("presence_penalty", 0.0),
        frequency_penalty=reader.number("frequency_penalty", 0.0),
        repetition_penalty=repetition,
        repeat_last_n=reader.integer("repeat_last_n", window),
        no_repeat_ngram_size=reader.integer("no_repeat_ngram_size", 0),
        suppress_tokens=reader.tokens("suppress_tokens"),
        begin_suppress_tokens=reader.tokens("begin_suppress_tokens"),
        bad_words_ids=reader.words("bad_words_ids", {(end,) for end in ends}),
        stop=reader.texts("stop_strings"),
        max_tokens=reader.integer("max_new_tokens", DEFAULT_MAX_TOKENS, "max_tokens"),
    )
    return settings, tuple(reader.notes)


def settings_to_json(settings: RecommendedSettings) -> dict[str, object]:
    """Return the settings as fields of `mlc-chat-config.json`; those at their defaults may be missing."""
    values = ((field, getattr(settings, field.name)) for field in dataclasses.fields(settings))
    return {field.name: v for field, v in values if v != field.default or field.name in _ALWAYS_WRITTEN}


def read_settings(fields: Fields) -> RecommendedSettings:
    """Read the settings in `mlc-chat-config.json`, ours or MLC's. Raises ArtefactError for one that is malformed."""
    chosen = any(fields.values.get(name) is not None for name in CUTS)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(RecommendedSettings):
        name, value = field.name, fields.values.get(field.name)
        if value is None:
            found[name] = CUTS.get(name, field.default) if chosen else field.default
        elif name in RANGES:
            found[name] = fields.number(name, 0.0)
        elif name in INTEGER_RANGES:
            found[name] = fields.integer(name)
        elif name == "stop":
            found[name] = fields.texts(name)
        else:
            found[name] = fields.integers(name) if name != "bad_words_ids" else _read_words(fields)
        if value is not None and name in (*RANGES, *INTEGER_RANGES) and not is_allowed(name, value):
            raise fields.error(name, f"is `{one_line(repr(value))}`, not {allowed(name)}")
    if fields.values.get("repeat_last_n") is None and found["repetition_penalty"] != 1.0:
        found["repeat_last_n"] = -1
    return RecommendedSettings(**found)


def _read_words(fields: Fields) -> tuple[tuple[int, ...], ...]:
    words = fields.values["bad_words_ids"]
    if not isinstance(words, list) or not all(
        isinstance(word, list) and word and all(type(token) is int for token in word) for word in words
    ):
        raise fields.error("bad_words_ids", f"is `{one_line(repr(words))}`, not lists of whole numbers")
    return tuple(map(tuple, words))


class _Reader:
    """Takes values out of a `generation_config.json`, and notes which of them are of no use."""

    def __init__(self, values: Mapping[str, object], vocab_size: int) -> None:
        self._values = values
        self._vocab_size = vocab_size
        self.notes: list[str] = []

    def cuts(self) -> dict[str, Any]:
        """Return the temperature, and what cuts the distribution; nothing if neither is recommended."""
        samples = self._values.get("do_sample")
        if samples is False:  # what else is said of sampling is not meant to be used
            return {"temperature": 0.0}
        if samples not in (None, True):
            self._leave_out("do_sample", samples, "true or false")
        found = {name: value for name in CUTS if (value := self._usable(name, name)) is not None}
        if 0 in (found.get("top_p"), found.get("temperature")):
            return {"temperature": 0.0}
        chosen = any(name in ("temperature", "top_p") or value != CUTS[name] for name, value in found.items())
        return {**CUTS, "top_k": TOP_K_OF_TRANSFORMERS, **found} if chosen else {}

    def number(self, name: str, otherwise: float) -> float:
        value = self._usable(name, name)
        return otherwise if value is None else value

    def integer(self, name: str, otherwise: int, setting: str | None = None) -> int:
        value = self._usable(name, setting or name)
        return otherwise if value is None else int(value)

    def tokens(self, name: str) -> tuple[int, ...]:
        return self._several(name, self._is_token, MAX_BANNED, "a list of the model's token ids")

    def words(self, name: str, without: set[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        """Return sequences of tokens but those in `without`."""

        def is_word(item: object) -> bool:
            return isinstance(item, list) and 0 < len(item) <= MAX_BAD_WORD_TOKENS and all(map(self._is_token, item))

        found = self._several(name, is_word, MAX_BAD_WORDS, "lists of the model's token ids")
        return tuple(word for word in map(tuple, found) if word not in without)

    def texts(self, name: str) -> tuple[str, ...]:
        def is_text(item: object) -> bool:
            return isinstance(item, str) and 0 < len(item) <= MAX_STOP_CHARACTERS

        return self._several(name, is_text, MAX_STOPS, f"strings of 1 to {MAX_STOP_CHARACTERS} characters")

    def note_unsupported(self, context_window: int) -> None:
        """Note the settings that the runtime does not have."""
        for name, neutral in UNSUPPORTED.items():
            value = self._values.get(name)
            if value is not None and value not in neutral:
                self.notes.append(f"the model recommends `{name}={one_line(value)}`, which is not supported")
        longest = self._values.get("max_length")
        if type(longest) is int and 0 < longest < context_window:
            self.notes.append(
                f"the model recommends `max_length={longest}` tokens for prompt and answer together, which is not "
                f"enforced: --context-window {longest} does that"
            )

    def _usable(self, name: str, setting: str) -> float | None:
        """Return the value of `name` if `setting` may have it; None, with a note, if it may not."""
        value = self._values.get(name)
        if value is None:
            return None
        number = type(value) in (int, float)
        if number and (name, value) in (("top_p", 0), ("top_k", -1)):
            return 0  # the likeliest token, which no mass above 0 describes; and another way to write "off"
        if isinstance(value, float) and value.is_integer() and setting not in RANGES:
            value = int(value)
        if not is_allowed(setting, value):
            self._leave_out(name, value, allowed(setting))
            return None
        assert isinstance(value, int | float)
        return float(value) if setting in RANGES else value

    def _several(self, name: str, fits: Callable[[object], bool], most: int, words: str) -> tuple[Any, ...]:
        """Return the entries of a list, or a single one, that fit: at most `most`."""
        value = self._values.get(name)
        items = value if isinstance(value, list) else [] if value is None else [value]
        good = [item for item in items if fits(item)]
        if len(good) < len(items):
            self._leave_out(name, next(item for item in items if not fits(item)), f"made of {words}")
        if len(good) > most:
            self._leave_out(name, f"{len(good)} entries", f"at most {most} {words}")
        return tuple(good[:most])

    def _is_token(self, item: object) -> bool:
        return type(item) is int and 0 <= item < self._vocab_size

    def _leave_out(self, name: str, value: object, words: str) -> None:
        self.notes.append(f"the model recommends `{name}={one_line(value)}`, which is left out: it must be {words}")
