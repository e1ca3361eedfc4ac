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
from argosy.support.strict_json import parse_json
from argosy.support.text import one_line


class Tokenizer:
    """A `tokenizer.json`, with the special tokens and the chat template of `tokenizer_config.json`."""

    def __init__(self, fast: FastTokenizer, config: Mapping[str, Any] | None = None) -> None:
        self._fast = fast
        self.config = dict(config or {})
        self._special = frozenset(i for i, token in fast.get_added_tokens_decoder().items() if token.special)
        self._rule: ByteRule | None = byte_rule(json.loads(fast.decoder.__getstate__()) if fast.decoder else None)

    @classmethod
    def load(cls, tokenizer: Path, config: Path | None = None) -> Tokenizer:
        """Read the files. Raises ArtefactError if one of them is malformed."""
        try:
            fast = FastTokenizer.from_file(str(tokenizer))
            values = {} if config is None else parse_json(config.read_bytes())
        except Exception as error:  # tokenizers raises nothing narrower
            reason = one_line(error, 200)
            raise ArtefactError(f"`{tokenizer}` cannot be read: {reason}", "build the artefact again") from error
        if not isinstance(values, dict):
            raise ArtefactError(f"`{config}` is not a JSON object", "build the artefact again")
        return cls(fast, values)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens that a chat template may name, such as `bos_token`: those that the model has."""
        values = {key: value for key, value in self.config.items() if key.endswith("_token")}
        texts = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in values.items()}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Return the token ids of `text`.

        Set `add_special_tokens` for plain text; a chat template writes special tokens itself.
        """
        return list(self._fast.encode(check_text(text, "the text"), add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        return str(self._fast.decode(list(tokens), skip_special_tokens=True))

    def id_of(self, token: str) -> int | None:
        """Return the id of the token with exactly this text, or None."""
        found = self._fast.token_to_id(token)
        return None if found is None else int(found)

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token adds to a text: none for special tokens and ids without a token."""
        text = None if token in self._special else self._fast.id_to_token(token)
        if text is None:
            return b""
        return self.decode([token]).encode() if self._rule is None else self._rule.convert(text)

    def text_of(self, token: int) -> str:
        """Return a token as people read it: special ones by name, bytes that are not a character as U+FFFD."""
        if token in self._special:
            return str(self._fast.id_to_token(token))
        return self.bytes_of(token).decode("utf-8", errors="replace")

    def detokenizer(self) -> Detokenizer:
        """Return a detokenizer for one answer."""
        if self._rule is None:
            return WindowDetokenizer(self.decode)
        return ByteDetokenizer(self.bytes_of, self._rule.leading_spaces)


def load_tokenizer(artefact: Artefact) -> Tokenizer:
    """Load the tokenizer of an artefact, with its `tokenizer_config.json` and `chat_template.jinja` if it has them."""
    names = artefact.config.tokenizer_files
    config = artefact.tokenizer_path("tokenizer_config.json") if "tokenizer_config.json" in names else None
    tokenizer = Tokenizer.load(artefact.tokenizer_path("tokenizer.json"), config)
    if "chat_template.jinja" in names:
        tokenizer.config["chat_template"] = artefact.tokenizer_path("chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer
