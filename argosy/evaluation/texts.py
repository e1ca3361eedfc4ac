"""Cut a text into the windows of tokens to evaluate.

The bundled text, `alice.txt`, is the opening of "Alice's Adventures in Wonderland" by Lewis Carroll (1865), which is in
the public domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from argosy.evaluation.vocabulary import Vocabulary
from argosy.support.errors import UsageError

BUNDLED_TEXT = Path(__file__).with_name("alice.txt")
MIN_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens that are read together; those from `scored` on are predicted from all before them."""

    tokens: tuple[int, ...]
    scored: int

    def __post_init__(self) -> None:
        assert 1 <= self.scored < len(self.tokens), (self.scored, len(self.tokens))


def read_text(path: Path) -> str:
    """Read a text file. Raises UsageError if it cannot be read, is not UTF-8, or is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        sentence = f"`{path}` is not UTF-8 text: byte {error.start} is out of place"
        raise UsageError(sentence, "convert it, for example with iconv") from None
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not text.strip():
        raise UsageError(f"`{path}` holds no text", "give `--text` a file with some paragraphs")
    return text


def windows_of(text: str, vocabulary: Vocabulary, context_window: int, name: str) -> list[Window]:
    """Tokenize `text` and cut it into windows that begin with the model's own beginning, such as `<s>`.

    A last window without a token to predict is dropped. Raises UsageError if the text, called `name`, is too short.
    """
    start = vocabulary.beginning
    tokens = vocabulary.encode(text)
    if len(tokens) < MIN_TOKENS:
        raise UsageError(f"`{name}` has {len(tokens)} tokens, fewer than {MIN_TOKENS}", "give a longer text")
    return list(cut(tokens, start, context_window))


def cut(tokens: Sequence[int], start: Sequence[int], context_window: int) -> list[Window]:
    """Cut `tokens` into consecutive windows of `context_window` tokens that begin with `start`; the last is shorter."""
    step = context_window - len(start)
    pieces = (tokens[first : first + step] for first in range(0, len(tokens), step))
    scored = max(1, len(start))
    return [Window((*start, *piece), scored) for piece in pieces if len(start) + len(piece) > scored]
