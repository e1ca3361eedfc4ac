"""Find the token with which a chat template ends what the assistant says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer as FastTokenizer

from argosy.mlc_template import template_of, tokenizer_of
from argosy.support.errors import ArgosyError

_QUESTION, _ANSWER = "SENTINELquestion", "SENTINELanswer"
# Some templates begin the next turn at once. Its first token is no end, unless it says that it is one.
_BEGINS = re.compile(r"user|human|assistant|system|start|begin|bos|inst|observation", re.IGNORECASE)
_ENDS = re.compile(r"end|eo[stmd]|stop|return", re.IGNORECASE)


def ends_of_answers(declared: Sequence[int], files: Mapping[str, bytes]) -> tuple[int, ...]:
    """Return the tokens that end an answer: those that the configuration declares, and that of the chat template."""
    end = _end_of_turn(files)
    return (*declared, end) if end is not None and end not in declared else tuple(declared)


def _end_of_turn(files: Mapping[str, bytes]) -> int | None:
    """Return the id of the token that the chat template in the tokenizer's `files` writes after an answer.

    A model that was trained on this template ends its answers with that token, whatever its configuration calls the end
    of a text. None if there is no template, if it cannot be used, or if no token follows the answer.
    """
    tokenizer = tokenizer_of(files)
    try:
        template = template_of(files, tokenizer)
        if template is None:
            return None
        turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
        text = template.render(turns, add_generation_prompt=False)
    except ArgosyError:
        return None
    _, found, after = text.rpartition(_ANSWER)
    after = after.lstrip()
    added = FastTokenizer.from_str(files["tokenizer.json"].decode()).get_added_tokens_decoder()
    following = {i: token.content for i, token in added.items() if after.startswith(token.content)}
    if not found or not following:
        return None
    end = max(following, key=lambda i: len(following[i]))
    return None if _BEGINS.search(following[end]) and not _ENDS.search(following[end]) else end
