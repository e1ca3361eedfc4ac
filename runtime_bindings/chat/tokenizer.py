"""Text goes in and token ids come out; token ids go in and text comes out, as the model's own tokenizer has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from argosy.runtime_bindings.chat.detokenizer import (
    ByteDetokenizer,
    ByteRule,
    Detokenizer,
    WindowDetokenizer,
    byte_rule,
)
from argosy.support.errors import ArtefactError


class Tokenizer:
    """A `tokenizer.json`, with what `tokenizer_config.json` says of special tokens and chats."""

    def __init__(self, fast: FastTokenizer, config: Mapping[str, Any] | None = None) -> None:
        self._fast = fast
        self.config = dict(config or {})
        self._special = frozenset(i for i, token in fast.get_added_tokens_decoder().items() if token.special)
        self._rule: ByteRule | None = byte_rule(json.loads(fast.decoder.__getstate__()) if fast.decoder else None)

    @classmethod
    def load(cls, tokenizer: Path, config: Path | None = None) -> Tokenizer:
        """From files; ArtefactError if one of them is not what it should be."""
        try:
            fast = FastTokenizer.from_file(str(tokenizer))
            values = {} if config is None else json.loads(config.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises nothing narrower
            reason = str(error).strip().split("\n", 1)[0]
            raise ArtefactError(f"`{tokenizer}` cannot be read: {reason}", "build the artefact again") from error
        if not isinstance(values, dict):
            raise ArtefactError(f"`{config}` is not a JSON object", "build the artefact again")
        return cls(fast, values)

    @property
    def special_tokens(self) -> dict[str, str]:
        """What a chat template may name: `bos_token`, `eos_token` and so on, as far as the model has them."""
        values = {key: value for key, value in self.config.items() if key.endswith("_token")}
        texts = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in values.items()}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids. A chat template writes special tokens itself; plain text wants `add_special_tokens`."""
        return list(self._fast.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return str(self._fast.decode(list(tokens), skip_special_tokens=True))

    def id_of(self, token: str) -> int | None:
        """The id of a token, by its exact text."""
        found = self._fast.token_to_id(token)
        return None if found is None else int(found)

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for special tokens and ids without a token."""
        text = None if token in self._special else self._fast.id_to_token(token)
        if text is None:
            return b""
        return self.decode([token]).encode() if self._rule is None else self._rule.convert(text)

    def text_of(self, token: int) -> str:
        """A token for people to read: special ones by name, bytes that are no character as U+FFFD."""
        if token in self._special:
            return str(self._fast.id_to_token(token))
        return self.bytes_of(token).decode("utf-8", errors="replace")

    def detokenizer(self) -> Detokenizer:
        """For the tokens of one answer, as they come."""
        if self._rule is None:
            return WindowDetokenizer(self.decode)
        return ByteDetokenizer(self.bytes_of, self._rule.leading_spaces)
