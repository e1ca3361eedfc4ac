"""Merge all places where a Hugging Face directory may declare added and special tokens, as transformers 5 does.

Tokens stand in `tokenizer.json`, in `tokenizer_config.json` (`added_tokens_decoder`, `bos_token` and the like,
`extra_special_tokens`) and in the older `special_tokens_map.json` and `added_tokens.json`. Numbers are those of the
vocabulary; a token without an entry there gets the next free one, whatever number a file gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from argosy.model_defs.checkpoint.tokenizer_json import Added
from argosy.support.errors import CheckpointError
from argosy.support.text import one_line

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("special", "lstrip", "rstrip", "normalized", "single_word")
MAX_NUMBER = 1 << 31
END = "<|endoftext|>"
# What the tokenizer classes of transformers assume where no file says otherwise.
CLASS_DEFAULTS: dict[str, dict[str, str | None]] = {
    "GPT2": {"unk_token": END, "bos_token": END, "eos_token": END, "pad_token": None},
    "GPTNeoX": {"unk_token": END, "bos_token": END, "eos_token": END, "pad_token": "<|padding|>"},
    "Qwen2": {"unk_token": END, "eos_token": END, "pad_token": END},
    "Llama": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "Gemma": {
        "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "mask_token": "<mask>",
    },
}  # fmt: skip
CLASS_OF_MODEL = {
    "gpt2": "GPT2", "gpt_neox": "GPTNeoX", "qwen2": "Qwen2", "qwen3": "Qwen2", "gemma3": "Gemma",
    "gemma3_text": "Gemma",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Word:
    """An added token without its number."""

    content: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    single_word: bool = False


@dataclass(slots=True)
class Sources:
    """The files that declare tokens, parsed; absent ones are empty."""

    stored: list[object] = field(default_factory=list)  # `added_tokens` of tokenizer.json
    settings: dict[str, object] = field(default_factory=dict)  # tokenizer_config.json
    special_map: dict[str, object] = field(default_factory=dict)  # special_tokens_map.json
    numbers: dict[str, object] = field(default_factory=dict)  # added_tokens.json
    defaults: Mapping[str, str | None] = field(default_factory=dict)  # of the tokenizer's class


@dataclass(frozen=True, slots=True)
class Merged:
    """The tokens to match in a text, by number, and `tokenizer_config.json` with all that the other files add to it."""

    added: tuple[Added, ...]
    settings: dict[str, object]


def class_defaults(
    settings: Mapping[str, object], config: Mapping[str, object], byte_level: bool
) -> Mapping[str, str | None]:
    """Return the special tokens that the tokenizer's class assumes. Llama's is not used for `byte_level` tokenizers."""
    given = settings.get("tokenizer_class") or config.get("tokenizer_class")
    name = given if isinstance(given, str) else CLASS_OF_MODEL.get(str(config.get("model_type")), "")
    name = name.removesuffix("Fast").removesuffix("Tokenizer")
    return {} if name == "Llama" and byte_level else CLASS_DEFAULTS.get(name, {})


def merge_tokens(sources: Sources, vocabulary: Mapping[str, int], padding: object) -> Merged:
    """Merge all declarations. The token of `padding`, in tokenizer.json, is the `pad_token` if no file has one."""
    declared = _declared(sources)
    values = {**sources.defaults, **declared.values}
    if isinstance(padding, dict) and isinstance(padding.get("pad_token"), str):
        values.setdefault("pad_token", padding["pad_token"])
    known = {word.content: word for word in declared.words.values()}
    special = {key: known.get(word.content, word) for key in NAMED if (word := _word(values.get(key), key))}
    special |= {key: word for key, value in declared.own.items() if (word := _word(value, key))}
    extra = _listed(values)
    words = _Words(vocabulary)
    words.add(_word(token, "added_tokens") for token in sources.stored)
    words.add(_missing(words, declared.words, special, extra))
    return Merged(words.result(), _settings(sources, values, special, extra, words.result()))


def declared_numbers(sources: Sources) -> list[tuple[int, str]]:
    """List the numbers that files give to added tokens, with their texts."""
    return [(number, word.content) for number, word in _declared(sources).words.items()]


@dataclass(frozen=True, slots=True)
class _Declared:
    """The words to which a file gives a number, and the settings with those of special_tokens_map.json.

    `own` are special tokens with names that only this model has.
    """

    words: dict[int, Word]
    values: dict[str, object]
    own: dict[str, object]


def _declared(sources: Sources) -> _Declared:
    """Read the declarations. transformers ignores the older files beside a config with `added_tokens_decoder`."""
    values = dict(sources.settings)
    if not values.get("extra_special_tokens") and "additional_special_tokens" in values:
        values["extra_special_tokens"] = values.pop("additional_special_tokens")
    own: dict[str, object] = {key: text for key, text in values.items() if _is_own(key) and isinstance(text, str)}
    own |= _named(values)
    decoder = values.pop("added_tokens_decoder", None)
    if decoder is not None:
        if not isinstance(decoder, dict):
            raise _malformed("added_tokens_decoder", decoder)
        words = {_number(key, key): _entry(value, key) for key, value in decoder.items()}
    else:
        for key, value in sources.special_map.items():
            if key == "extra_special_tokens" and isinstance(value, list):
                old = values.get(key)
                value = [*(old if isinstance(old, list) else []), *map(_special, value)]
            values[key] = value if key == "extra_special_tokens" else _special(value)
        own |= _named(values)
        words = _older(sources, values)
    later = {key: value for key, value in values.items() if _is_own(key) and isinstance(value, str | dict)}
    return _Declared(words, values, {**later, **own})


def _older(sources: Sources, values: Mapping[str, object]) -> dict[int, Word]:
    """Read the numbers of `added_tokens.json` and of tokenizer.json."""
    extra = values.get("extra_special_tokens")
    marked = [*(_word(values.get(key), key) for key in NAMED), *(_words(extra) if isinstance(extra, list) else ())]
    texts = {word.content for word in marked if word is not None}
    found = {
        _number(value, text): Word(text, text in texts, normalized=text not in texts)
        for text, value in sources.numbers.items()
    }
    for token in sources.stored:
        if isinstance(token, dict):
            found[_number(token.get("id"), token.get("content"))] = _entry(token, token.get("id"))
    return found


def _is_own(key: str) -> bool:
    return key.endswith("_token") and key not in NAMED


def _named(values: dict[str, object]) -> dict[str, object]:
    """Remove `extra_special_tokens` from `values` and return it, if it gives the tokens names."""
    extra = values.get("extra_special_tokens")
    if not isinstance(extra, dict):
        return {}
    del values["extra_special_tokens"]
    return extra


def _special(value: object) -> object:
    """Return a declaration with its flag `special` set, if it has flags."""
    return {**value, "special": True} if isinstance(value, dict) else value


def _missing(
    words: _Words, declared: Mapping[int, Word], special: Mapping[str, Word], extra: Iterable[Word]
) -> list[Word]:
    """List the words to add to those of tokenizer.json, whose flags they change, in the order of their numbers."""
    new = [declared[number] for number in sorted(declared)]
    present = words.contents() | {word.content for word in new}
    new += dict.fromkeys(word for word in (*special.values(), *extra) if word.content not in present)
    named = {word.content for word in special.values()}
    return [replace(word, special=word.special or word.content in named) for word in new]


class _Words:
    """Added tokens with their numbers, as the `tokenizers` library assigns them."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._by_number: dict[int, Word] = {}
        self._numbers: dict[str, int] = {}
        self._special: set[str] = set()  # stays special, even if a later declaration is not
        self._next = len(vocabulary)

    def add(self, words: Iterable[Word | None]) -> None:
        for word in words:
            if word is None or not word.content:
                continue
            number = self._numbers.get(word.content, self._vocabulary.get(word.content))
            if number is None:
                number = self._next
            self._next = max(self._next, number + 1)
            self._numbers[word.content] = number
            self._by_number[number] = word
            if word.special:
                self._special.add(word.content)

    def contents(self) -> set[str]:
        return {word.content for word in self._by_number.values()}

    def result(self) -> tuple[Added, ...]:
        """Return them by number."""
        marked = {
            number: replace(word, special=word.content in self._special) for number, word in self._by_number.items()
        }
        return tuple(Added(number, **asdict(marked[number])) for number in sorted(marked))


def _settings(
    sources: Sources,
    values: Mapping[str, object],
    special: Mapping[str, Word],
    extra: Iterable[Word],
    added: Iterable[Added],
) -> dict[str, object]:
    """Return `tokenizer_config.json` with the merged state, in a form that transformers 4 and 5 read alike."""
    out = {key: value for key, value in sources.settings.items() if key not in ("extra_special_tokens", *NAMED)}
    out |= {key: None for key in NAMED if key in values}
    out |= {key: word.content for key, word in special.items() if key.endswith("_token")}
    out.pop("additional_special_tokens", None)
    if named := {key: word.content for key, word in special.items() if not key.endswith("_token")}:
        out["extra_special_tokens"] = named
    if texts := [word.content for word in extra]:
        out["additional_special_tokens"] = texts
    out["added_tokens_decoder"] = {
        str(token.id): {key: value for key, value in token.as_json().items() if key != "id"} for token in added
    }
    return out


def _listed(values: Mapping[str, object]) -> list[Word]:
    """Return the special tokens without names."""
    extra = values.get("extra_special_tokens", values.get("additional_special_tokens"))
    if extra is not None and not isinstance(extra, list):
        raise _malformed("extra_special_tokens", extra)
    return _words(extra or ())


def _words(values: Iterable[object]) -> list[Word]:
    words = (_word(value, "extra_special_tokens") for value in values)
    return [word for word in words if word is not None]


def _word(value: object, place: str) -> Word | None:
    """Read a special token, which is a text or an object with flags."""
    if value is None:
        return None
    if isinstance(value, str):
        return Word(value, special=True)
    return _entry(value, place)


def _entry(value: object, place: object) -> Word:
    """Read an object with the text and the flags of a token."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise _malformed(place, value)
    flags = {flag: value[flag] for flag in FLAGS if value.get(flag) is not None}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise _malformed(place, value)
    flags.setdefault("normalized", not flags.get("special", False))
    return Word(value["content"], **{"special": False, **flags})


def _number(value: object, place: object) -> int:
    """Read the number of a token, which is a text where it is a key."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise _malformed(place, value)
    return value


def _malformed(place: object, value: object) -> CheckpointError:
    return CheckpointError(
        f"the tokenizer's files hold `{one_line(value)}` for `{one_line(place)}`, which is not a token",
        "download the directory again",
    )
