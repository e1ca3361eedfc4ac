"""Decode an answer token by token, emitting each character as soon as it is complete."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # sentencepiece's stand-in for a space
_REPLACEMENT = "\ufffd"


class Detokenizer(Protocol):
    """Decodes the tokens of an answer; the pieces that it returns add up to the decoded answer."""

    def add(self, token: int) -> str:
        """Return the characters that `token` completes: often a word, sometimes nothing."""

    def finish(self) -> str:
        """Return the rest at the end of the answer: U+FFFD for bytes that are not a whole character."""


@dataclass(frozen=True, slots=True)
class ByteRule:
    """How a byte-based tokenizer spells bytes, and how many spaces it drops at the start of a text.

    With `added_as_text`, added tokens are not spelled in bytes but stand for their own text.
    """

    convert: Callable[[str], bytes]
    leading_spaces: int
    added_as_text: bool


def byte_rule(decoder: object) -> ByteRule | None:
    """Recognise a `decoder` of tokenizer.json: GPT-2's byte-level one, or sentencepiece's with byte fallback.

    Returns None for decoders that cannot decode token by token, such as WordPiece.
    """
    if not isinstance(decoder, dict):
        return None
    steps: list[dict[str, Any]] = decoder.get("decoders", []) if decoder.get("type") == "Sequence" else [decoder]
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return ByteRule(_byte_level, 0, added_as_text=True)
    if kinds not in (["Replace", "ByteFallback", "Fuse"], ["Replace", "ByteFallback", "Fuse", "Strip"]):
        return None
    if steps[0].get("pattern") != {"String": _SPACE} or steps[0].get("content") != " ":
        return None
    strip: dict[str, Any] = steps[3] if len(steps) == 4 else {"content": " ", "start": 0, "stop": 0}
    if strip.get("content") != " " or strip.get("stop") != 0:
        return None
    return ByteRule(_sentencepiece, strip["start"], added_as_text=False)


def _byte_table() -> dict[str, int]:
    """Map GPT-2's stand-ins to bytes: printable bytes stand for themselves, the others are numbered from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_table()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:  # written by hand into the vocabulary
        return token.encode()


def _sentencepiece(token: str) -> bytes:
    found = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(found.group(1), 16)]) if found else token.replace(_SPACE, " ").encode()


class ByteDetokenizer:
    """Gathers bytes until they form UTF-8 characters. The cost of a token does not grow with the answer."""

    def __init__(self, bytes_of: Callable[[int], bytes], leading_spaces: int) -> None:
        self._bytes_of = bytes_of
        self._leading_spaces = leading_spaces
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        return self._strip(self._utf8.decode(self._bytes_of(token)))

    def finish(self) -> str:
        return self._strip(self._utf8.decode(b"", final=True))

    def _strip(self, text: str) -> str:
        while self._leading_spaces and text:
            if text[0] != " ":
                self._leading_spaces = 0
                break
            text = text[1:]
            self._leading_spaces -= 1
        return text


class WindowDetokenizer:
    """Decodes with any tokenizer: the last tokens with and without the new one, to emit the difference once it ends in
    a whole character. The text of a token may depend on the one before it, so a new token is never decoded alone."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._given = 0

    def add(self, token: int) -> str:
        self._tokens.append(token)
        text, before = self._difference()
        if text.endswith(_REPLACEMENT) or len(text) <= before:
            return ""
        self._tokens = self._tokens[self._given :]
        self._given = len(self._tokens)
        return text[before:]

    def finish(self) -> str:
        text, before = self._difference()
        return text[before:]

    def _difference(self) -> tuple[str, int]:
        return self._decode(self._tokens), len(self._decode(self._tokens[: self._given]))
