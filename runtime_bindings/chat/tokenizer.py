"""Encode text as token ids and decode them, with the model's own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from argosy.dist.artefact import Artefact
from argosy.runtime_bindings.chat.detokenizer import (
    ByteDetokenizer,
    ByteRule,
    Detokenizer,
    WindowDetokenizer,
    byte_rule,
)
from argosy.runtime_bindings.chat.messages import check_text
from argosy.support.errors import ArtefactError
from argosy.support.fast_tokenizer import library_errors, load_tokenizer_json
from argosy.support.strict_json import JsonError, parse_json
from argosy.support.text import one_line


class Tokenizer:
    """A `tokenizer.json`, with the special tokens and the chat template of `tokenizer_config.json`."""

    def __init__(self, fast: FastTokenizer, config: Mapping[str, Any] | None = None) -> None:
        """Take over `fast`, and switch off the truncation and the padding that it was saved with."""
        fast.no_truncation()
        fast.no_padding()
        self._fast = fast
        self.config = dict(config or {})
        fast.encode_special_tokens = self.config.get("split_special_tokens") is True  # as transformers does
        added = fast.get_added_tokens_decoder()
        self._special = {i: token.content for i, token in added.items() if token.special}
        self._rule: ByteRule | None = byte_rule(json.loads(fast.decoder.__getstate__()) if fast.decoder else None)
        self._added: dict[int, bytes] = {}
        if self._rule is not None and self._rule.added_as_text:
            self._added = {i: token.content.encode() for i, token in added.items() if not token.special}

    def __repr__(self) -> str:
        return f"<Tokenizer of {self._fast.get_vocab_size()} tokens>"

    @classmethod
    def load(cls, tokenizer: Path, config: Path | None = None) -> Tokenizer:
        """Read the files. Raises ArtefactError if one of them is malformed."""
        try:
            fast = load_tokenizer_json(tokenizer.read_bytes(), lambda problem: _unusable(tokenizer, problem))
            values = {} if config is None else parse_json(config.read_bytes())
        except (OSError, JsonError) as error:
            reason = one_line(error, 200)
            raise ArtefactError(f"`{tokenizer}` cannot be read: {reason}", "build the artefact again") from error
        if not isinstance(values, dict):
            raise ArtefactError(f"`{config}` is not a JSON object", "build the artefact again")
        return cls(fast, values)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens that a chat template may name, such as `bos_token`: those that the model has."""
        values = {key: value for key, value in self.config.items() if key.endswith("_token")}
        if isinstance(named := self.config.get("extra_special_tokens"), Mapping):
            values |= named
        texts = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in values.items()}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Return the token ids of `text`.

        Set `add_special_tokens` for plain text; a chat template writes special tokens itself.
        """
        check_text(text, "the text")
        with library_errors(lambda reason: _failed("encode this text", reason)):
            return list(self._fast.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        if self._rule is not None and self._rule.added_as_text:
            return b"".join(map(self.bytes_of, tokens)).decode("utf-8", errors="replace")
        with library_errors(lambda reason: _failed("decode these tokens", reason)):
            return str(self._fast.decode(list(tokens), skip_special_tokens=True))

    def id_of(self, token: str) -> int | None:
        """Return the id of the token with exactly this text, or None."""
        found = self._fast.token_to_id(token)
        return None if found is None else int(found)

    def tokens_of(self, text: str) -> frozenset[int]:
        """Return the tokens that stand for exactly this text, special ones by name; often there is none."""
        found = {self.id_of(text), *(ids if len(ids := self.encode(text)) == 1 else ())}
        return frozenset(token for token in found if token is not None and self.text_of(token) == text)

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token adds to a text: none for special tokens and ids without a token."""
        if token in self._special:
            return b""
        if token in self._added:
            return self._added[token]
        text = self._fast.id_to_token(token)
        if text is None:
            return b""
        return self.decode([token]).encode() if self._rule is None else self._rule.convert(text)

    def text_of(self, token: int) -> str:
        """Return a token as people read it: special ones by name, bytes that are not a character as U+FFFD."""
        return self._special.get(token) or self.bytes_of(token).decode("utf-8", errors="replace")

    def hidden_text(self, token: int) -> str:
        """Return the name of a special token, which is no part of an answer's text, and an empty text for others."""
        return self._special.get(token, "")

    @property
    def hidden_texts(self) -> frozenset[str]:
        """The names of all special tokens."""
        return frozenset(self._special.values())

    def detokenizer(self) -> Detokenizer:
        """Return a detokenizer for one answer."""
        if self._rule is None:
            return WindowDetokenizer(self.decode)
        return ByteDetokenizer(self.bytes_of, self._rule.leading_spaces)


def _unusable(path: Path, problem: str) -> ArtefactError:
    return ArtefactError(f"`{path}` {problem}", "build the artefact again, from a model of a source that you trust")


def _failed(what: str, reason: str) -> ArtefactError:
    hint = "get the model from a source that you trust"
    return ArtefactError(f"the model's tokenizer cannot {what}: `{reason}`", hint)


def load_tokenizer(artefact: Artefact) -> Tokenizer:
    """Load the tokenizer of an artefact, with its `tokenizer_config.json` and `chat_template.jinja` if it has them."""
    names = artefact.config.tokenizer_files
    config = artefact.tokenizer_path("tokenizer_config.json") if "tokenizer_config.json" in names else None
    tokenizer = Tokenizer.load(artefact.tokenizer_path("tokenizer.json"), config)
    if "chat_template.jinja" in names:
        tokenizer.config["chat_template"] = artefact.tokenizer_path("chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer
