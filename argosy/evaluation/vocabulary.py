"""Tokenize texts and chat prompts for a model, and check that two models share a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

from argosy.dist.artefact import Artefact
from argosy.runtime_bindings.chat.template import ChatTemplate, select_template
from argosy.runtime_bindings.chat.tokenizer import Tokenizer, load_tokenizer
from argosy.support.errors import UsageError


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A model's tokenizer. `beginning` is what the model expects before any text, such as `<s>`; it may be empty."""

    tokenizer: Tokenizer
    beginning: tuple[int, ...]
    template: ChatTemplate | None
    ends: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Tokenize `text` without special tokens."""
        return self.tokenizer.encode(text)

    def chat_prompt(self, question: str) -> list[int]:
        """Tokenize the prompt that asks `question`: the bare question if the model has no chat template."""
        if self.template is None:
            return [*self.beginning, *self.encode(question)]
        return self.encode(self.template.render([{"role": "user", "content": question}]))


def open_vocabulary(artefact: Artefact) -> Vocabulary:
    """Open the vocabulary of an artefact. Raises ArtefactError if its tokenizer cannot be used."""
    tokenizer = load_tokenizer(artefact)
    source = select_template(tokenizer.config.get("chat_template"))
    return Vocabulary(
        tokenizer=tokenizer,
        beginning=_beginning(tokenizer),
        template=ChatTemplate(source, tokenizer.special_tokens) if source else None,
        ends=frozenset(artefact.config.eos_token_ids),
    )


def _beginning(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Find the ids that the tokenizer puts before a text, by comparing encodings with and without them."""
    plain, special = tokenizer.encode("a"), tokenizer.encode("a", add_special_tokens=True)
    for first in range(len(special) - len(plain) + 1):
        if special[first : first + len(plain)] == plain:
            return tuple(special[:first])
    return ()


def check_same_vocabulary(one: Artefact, other: Artefact, size: int) -> None:
    """Raise UsageError unless ids 0 to `size` - 1 are the same tokens in both artefacts."""
    paths = [artefact.tokenizer_path() for artefact in (one, other)]
    if paths[0].read_bytes() == paths[1].read_bytes():
        return
    mine, theirs = (_tokens(Tokenizer.load(path), size) for path in paths)
    differing = sum(left != right for left, right in zip(mine, theirs, strict=True))
    if differing:
        raise UsageError(
            f"the vocabularies of `{one.directory}` and `{other.directory}` differ in {differing} tokens",
            "compare artefacts of one model, or of models that share a tokenizer",
        )


def _tokens(tokenizer: Tokenizer, size: int) -> list[tuple[bytes, str]]:
    """List the bytes and the text of every id; special tokens have no bytes."""
    return [(tokenizer.bytes_of(token), tokenizer.text_of(token)) for token in range(size)]
