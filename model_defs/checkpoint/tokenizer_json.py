"""Write `tokenizer.json` for the `tokenizers` library from a vocabulary, merges and special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from argosy.model_defs.checkpoint.pre_tokenizers import PreTokenizer
from argosy.support.errors import CheckpointError
from argosy.support.fast_tokenizer import load_tokenizer_json
from argosy.support.text import one_line

DAMAGED = "download it or convert it again"
LETTERS = 1 << 22  # characters of all pieces; a vocabulary of 262144 has 1.8 million
MERGED = 6  # characters of the merges for each character of the pieces; genuine vocabularies have 2 to 3
LETTERS_OF_FEW = 1 << 12  # in vocabularies that are too small to have a usual share
SPACE = "\u2581"  # how sentencepiece writes a space


@dataclass(frozen=True, slots=True)
class Added:
    """A token matched before the text is split. `special` ones are left out of decoded text."""

    id: int
    content: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    single_word: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the entry in `added_tokens`."""
        return {
            "id": self.id,
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        }


def byte_level_bpe(
    vocab: Mapping[str, int],
    merges: Sequence[str],
    added: Iterable[Added],
    pre: PreTokenizer,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> bytes:
    """Build a tokenizer like GPT-2's: words, then bytes, then merges. `before` and `after` frame every text."""
    trim = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    frame = _frame(before, after, vocab)
    return _written(
        added,
        normalizer={"type": "NFC"} if pre.nfc else None,
        pre_tokenizer=pre.as_json(),
        post_processor={"type": "Sequence", "processors": [trim, frame]} if frame else trim,
        decoder=trim,
        model=_model(vocab, merges, ignore_merges=pre.ignore_merges),
    )


def sentencepiece_bpe(
    vocab: Mapping[str, int],
    merges: Sequence[str],
    added: Iterable[Added],
    unknown: str | None,
    space_prefix: bool,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> bytes:
    """Build a tokenizer like Llama 2's: spaces are letters, merges cross words, unknown letters become bytes."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps: list[dict[str, object]] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    steps += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if space_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _written(
        added,
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}
        if space_prefix
        else replace,
        pre_tokenizer=None,
        post_processor=_frame(before, after, vocab),
        decoder={"type": "Sequence", "decoders": steps},
        model=_model(vocab, merges, unknown=unknown, byte_fallback=True),
    )


def merges_of_scores(vocab: Mapping[str, int], scores: Mapping[str, float], parts: frozenset[str]) -> list[str]:
    """List the merges that a sentencepiece vocabulary implies, best first.

    A piece is merged from any two `parts` that add up to it; pieces with higher scores come first. `scores` holds the
    pieces that may be merged. Raises CheckpointError for pieces that are longer or overlap more than those of words do.
    """
    letters = sum(map(len, scores))
    if letters > LETTERS:
        raise CheckpointError(f"the vocabulary has `{letters}` characters, more than {LETTERS}", DAMAGED)
    limit = MERGED * (letters + LETTERS_OF_FEW)
    found = []
    merged = 0
    for piece, score in scores.items():
        rank = -score
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in parts and right in parts:
                found.append((rank, vocab[piece], vocab[left], vocab[right]))
                merged += len(piece)
        if merged > limit:
            raise CheckpointError(f"the pieces of the vocabulary overlap too much, as in `{one_line(piece)}`", DAMAGED)
    found.sort()
    texts = {i: text for text, i in vocab.items()}
    return [f"{texts[left]} {texts[right]}" for *_, left, right in found]


def verify(text: bytes, what: str) -> None:
    """Raise CheckpointError, naming `what`, for a tokenizer that is not safe to use, or that does not load."""
    load_tokenizer_json(text, lambda problem: CheckpointError(f"{what} {problem}", "download or convert it again"))


def _model(
    vocab: Mapping[str, int],
    merges: Sequence[str],
    unknown: str | None = None,
    byte_fallback: bool = False,
    ignore_merges: bool = False,
) -> dict[str, object]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": byte_fallback,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": dict(vocab),
        "merges": list(merges),
    }


def _frame(before: Sequence[str], after: Sequence[str], vocab: Mapping[str, int]) -> dict[str, object] | None:
    """Return the post-processor that puts special tokens around a text, or None if there are none."""
    if not before and not after:
        return None

    def tokens(names: Sequence[str]) -> list[dict[str, object]]:
        return [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]

    single = [*tokens(before), {"Sequence": {"id": "A", "type_id": 0}}, *tokens(after)]
    second = [*tokens(before), {"Sequence": {"id": "B", "type_id": 1}}, *tokens(after)]
    names = dict.fromkeys((*before, *after))
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *second],
        "special_tokens": {name: {"id": name, "ids": [vocab[name]], "tokens": [name]} for name in names},
    }


def _written(added: Iterable[Added], **parts: object) -> bytes:
    """Serialize the tokenizer, and check that it loads."""
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token.as_json() for token in sorted(added, key=lambda token: token.id)],
        **parts,
    }
    text = json.dumps(whole, ensure_ascii=False).encode("utf-8")
    verify(text, "the tokenizer rebuilt from this checkpoint")
    return text
