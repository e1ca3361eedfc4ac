"""Accept a `tokenizer.json` from a stranger only with the steps and sizes that models need.

Whatever text a model or a person writes, a tokenizer that is accepted here takes time and memory in proportion to it
(regular expressions: at most quadratic time), gives the same tokens each time, and changes nothing else. It may still
fail; the `tokenizers` library then raises. Truncation and padding are not looked at: they are switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from argosy.support.charsmap import CharsmapError, largest_growth
from argosy.support.regex_cost import RegexError, shortest_match
from argosy.support.text import one_line

STEPS = 24  # of all kinds together; DeepSeek's have 9
DEPTH = 4  # of sequences
GROWTH = 64  # times the bytes of a text, before normal forms
NORMAL_FORMS = 4
AFFIX = 64  # characters of what is put before or after a text or a word
SPECIAL = 64  # special tokens around a text
WORD = 512  # characters of a word that WordPiece cuts; its usual limit is 100
PIECE = 512  # characters of a piece of Unigram, and of an added token
TOKENS = 1 << 19
MERGES = 8  # for each token; the largest vocabulary in use has two
ADDED = 1 << 15
ADDED_CHARACTERS = 1 << 20
NUMBER = 1 << 24  # of a token


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# For each part of a tokenizer, the key of its sequences, and the kinds of its steps.
PARTS = {
    "normalizer": ("normalizers", _names(
        "BertNormalizer ByteLevel Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace Strip StripAccents"
    )),
    "pre_tokenizer": ("pretokenizers", _names(
        "BertPreTokenizer ByteLevel CharDelimiterSplit Digits FixedLength Metaspace Punctuation Split UnicodeScripts "
        "Whitespace WhitespaceSplit"
    )),
    "post_processor": ("processors", _names("BertProcessing ByteLevel RobertaProcessing TemplateProcessing")),
    "decoder": ("decoders", _names("BPEDecoder ByteFallback ByteLevel Fuse Metaspace Replace Strip WordPiece")),
}  # fmt: skip
MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")
AFFIXES = ("prefix", "suffix", "prepend", "content", "replacement", "delimiter", "word_delimiter_token", "cls", "sep")


class TokenizerRefused(ValueError):
    """A tokenizer has a step or a size that no model needs. Its text follows "the tokenizer" in a message."""


TokenizerStep = Mapping[str, object]


def check_tokenizer(tokenizer: Mapping[str, object]) -> None:
    """Check a parsed `tokenizer.json`. Raises TokenizerRefused."""
    steps = {part: list(_steps(tokenizer.get(part), part)) for part in PARTS}
    every = list(chain.from_iterable(steps.values()))
    if len(every) > STEPS:
        raise TokenizerRefused(f"has `{len(every)}` steps, more than {STEPS}")
    for step in every:
        _check_step(step)
    for parts in (("normalizer", "pre_tokenizer"), ("decoder",)):
        growth = 1.0
        for step in chain.from_iterable(steps[part] for part in parts):
            growth *= _growth(step)
        if growth > GROWTH:
            raise TokenizerRefused(f"makes texts `{growth:.0f}` times as long, more than {GROWTH}")
    if sum(str(step["type"]).startswith("NF") for step in every) > NORMAL_FORMS:
        raise TokenizerRefused(f"normalizes texts more than {NORMAL_FORMS} times")
    _check_model(tokenizer.get("model"))
    _check_added(tokenizer.get("added_tokens"))


def _steps(value: object, part: str, depth: int = 0) -> Iterator[TokenizerStep]:
    """Yield the steps of a part, which is a single one or sequences of them."""
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str):
        raise TokenizerRefused(f"has `{one_line(value)}` as a step of its {part}, which has no type")
    key, kinds = PARTS[part]
    if kind != "Sequence":
        if kind not in kinds:
            raise TokenizerRefused(f"has the {part} `{one_line(kind)}`, which no model that is supported needs")
        yield value
        return
    children = value.get(key)
    if depth == DEPTH or not isinstance(children, list):
        raise TokenizerRefused(f"has a {part} of sequences nested more than {DEPTH} deep or without steps")
    for child in children[: STEPS + 1]:
        yield from _steps(child, part, depth + 1)


# -- steps


def _check_step(step: TokenizerStep) -> None:
    kind = str(step["type"])
    for key in AFFIXES:
        value = step.get(key)
        if isinstance(value, str) and len(value) > AFFIX:
            raise TokenizerRefused(f"has a `{kind}` with a text of `{len(value)}` characters, more than {AFFIX}")
    if check := _CHECKS.get(kind):
        check(step)


def _check_strip(step: TokenizerStep) -> None:
    for key in ("start", "stop"):
        if not _between(step.get(key, 0), 0, AFFIX):
            raise TokenizerRefused(f"has a `Strip` with `{one_line(step.get(key))}` characters, more than {AFFIX}")


def _check_length(step: TokenizerStep) -> None:
    if not _between(step.get("length", 5), 1, NUMBER):
        raise TokenizerRefused(f"cuts texts to `{one_line(step.get('length'))}` characters, which is not a length")


def _check_template(step: TokenizerStep) -> None:
    """The text once, and few special tokens around it."""
    for name, texts in (("single", 1), ("pair", 2)):
        pieces = step.get(name)
        if not isinstance(pieces, list) or len(pieces) > SPECIAL:
            raise TokenizerRefused(f"has a template `{name}` that is not a list of at most {SPECIAL} pieces")
        if sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces) > texts:
            raise TokenizerRefused(f"has a template `{name}` that repeats the text")
    special = step.get("special_tokens")
    tokens = special.values() if isinstance(special, dict) and len(special) <= SPECIAL else None
    if tokens is None or not all(isinstance(token, dict) and _are_numbers(token.get("ids")) for token in tokens):
        raise TokenizerRefused(f"has a template without its special tokens, or with more than {SPECIAL}")


def _check_ends(step: TokenizerStep) -> None:
    for key in ("sep", "cls"):
        pair = step.get(key)
        if not isinstance(pair, list) or len(pair) != 2 or not _between(pair[1], 0, NUMBER):
            raise TokenizerRefused(f"has `{one_line(pair)}` as its `{key}`, which is not a token")


_CHECKS: dict[str, Callable[[TokenizerStep], None]] = {
    "Strip": _check_strip,
    "FixedLength": _check_length,
    "TemplateProcessing": _check_template,
    "BertProcessing": _check_ends,
    "RobertaProcessing": _check_ends,
    "Split": lambda step: _ignore(_pattern(step)),
}


def _growth(step: TokenizerStep) -> float:
    """Return how many times the bytes of a text a step may return, apart from what it puts before the whole."""
    kind = step["type"]
    if kind == "ByteLevel":
        return 2.0
    if kind == "Metaspace":
        return float(max(1, len(str(step.get("replacement", "")).encode("utf-8", "replace"))))
    if kind == "Replace":
        least = _pattern(step)
        if least == 0:
            raise TokenizerRefused("has a `Replace` of nothing, which would insert a text everywhere")
        return max(1.0, len(str(step.get("content", "")).encode("utf-8", "replace")) / least)
    if kind == "Precompiled":
        try:
            return largest_growth(step.get("precompiled_charsmap"))
        except CharsmapError as problem:
            raise TokenizerRefused(f"has a map of characters that {problem}") from None
    return 1.0


def _pattern(step: TokenizerStep) -> int:
    """Check the pattern of a step, and return the bytes of its shortest match."""
    pattern = step.get("pattern")
    if not isinstance(pattern, dict) or len(pattern) != 1:
        raise TokenizerRefused(f"has the pattern `{one_line(pattern)}`, which is neither a text nor an expression")
    ((kind, value),) = pattern.items()
    if kind == "String" and isinstance(value, str) and 0 < len(value) <= PIECE:
        return len(value.encode("utf-8", "replace"))
    if kind != "Regex" or not isinstance(value, str):
        raise TokenizerRefused(f"has the pattern `{one_line(pattern)}`, which is no text of 1 to {PIECE} characters")
    try:
        return shortest_match(value)
    except RegexError as problem:
        raise TokenizerRefused(f"has the regular expression `{one_line(value)}`, which {problem}") from None


# -- tokens


def _check_model(model: object) -> None:
    if not isinstance(model, dict):
        raise TokenizerRefused("has no model")
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind is not None and kind not in MODELS:
        raise TokenizerRefused(f"has the model `{one_line(kind)}`, it must be one of {', '.join(MODELS)}")
    if model.get("dropout") not in (None, 0):
        raise TokenizerRefused(f"drops merges at random: `dropout` is `{one_line(model['dropout'])}`, it must be null")
    if kind in ("BPE", None) and (prefix := model.get("continuing_subword_prefix")) not in (None, ""):
        # the library cuts it from tokens without looking, and ends the process where that cuts a character
        raise TokenizerRefused(f"has `{one_line(prefix)}` as `continuing_subword_prefix` of BPE, it must be null")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if isinstance(affix := model.get(key), str) and len(affix) > AFFIX:
            raise TokenizerRefused(f"has a `{key}` of `{len(affix)}` characters, more than {AFFIX}")
    if not _between(model.get("max_input_chars_per_word", 100), 1, WORD):
        longest = one_line(model.get("max_input_chars_per_word"))
        raise TokenizerRefused(f"cuts words of `{longest}` characters, more than {WORD}")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict | list) or not 0 < len(vocabulary) <= TOKENS:
        raise TokenizerRefused(f"has no vocabulary, or one of more than {TOKENS} tokens")
    merges = model.get("merges")
    if isinstance(merges, list) and len(merges) > MERGES * len(vocabulary):
        raise TokenizerRefused(f"has `{len(merges)}` merges for `{len(vocabulary)}` tokens")
    if isinstance(vocabulary, dict):
        wrong = next((text for text, number in vocabulary.items() if not _between(number, 0, NUMBER)), None)
        if wrong is not None:
            raise TokenizerRefused(f"gives the token `{one_line(wrong)}` the number `{one_line(vocabulary[wrong])}`")
    else:
        _check_pieces(vocabulary, model.get("unk_id"))


def _check_pieces(vocabulary: list[object], unknown: object) -> None:
    for piece in vocabulary:
        text, score = piece if isinstance(piece, list) and len(piece) == 2 else (None, None)
        is_score = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) < 1e9
        if not isinstance(text, str) or len(text) > PIECE or not is_score:
            raise TokenizerRefused(f"has the piece `{one_line(piece)}`, which is no text with a score")
    if unknown is not None and not _between(unknown, 0, len(vocabulary) - 1):
        raise TokenizerRefused(f"has `{one_line(unknown)}` as the number of its unknown token")


def _check_added(added: object) -> None:
    if added is None:
        return
    if not isinstance(added, list) or len(added) > ADDED:
        raise TokenizerRefused(f"has no list of at most {ADDED} added tokens")
    total = 0
    for token in added:
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(token, dict) or not isinstance(content, str) or not _between(token.get("id"), 0, NUMBER):
            raise TokenizerRefused(f"has `{one_line(token)}` among its added tokens")
        if len(content) > PIECE:
            raise TokenizerRefused(f"has an added token of `{len(content)}` characters, more than {PIECE}")
        total += len(content)
    if total > ADDED_CHARACTERS:
        raise TokenizerRefused(f"has added tokens of `{total}` characters, more than {ADDED_CHARACTERS}")


def _between(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) <= SPECIAL and all(_between(number, 0, NUMBER) for number in value)


def _ignore(_: object) -> None:
    return None
