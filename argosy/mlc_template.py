"""Derive MLC's `conv_template` from a model's tokenizer files, for runtimes without Jinja."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from argosy.dist.conv_template import TemplateMessage, completion_template, derive_conv_template
from argosy.runtime_bindings.chat.template import ChatTemplate, select_template
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.support.errors import ArtefactError
from argosy.support.fast_tokenizer import load_tokenizer_json


def conv_template(name: str, files: Mapping[str, bytes], stop_token_ids: Sequence[int]) -> dict[str, object] | None:
    """Return MLC's form of the chat template in `files`, or that of plain completion if there is none.

    None if MLC's form cannot express the template, or if it cannot be read; the runtime reports the latter when the
    model is used for a chat.
    """
    tokenizer = tokenizer_of(files)
    try:
        template = template_of(files, tokenizer)
    except ArtefactError:
        return None
    if template is None:
        return completion_template(stop_token_ids)
    text = tokenizer.special_tokens.get("bos_token")
    bos = None if text is None else tokenizer.id_of(text)

    def render(messages: Sequence[TemplateMessage], generation: bool) -> str:
        return template.render(messages, add_generation_prompt=generation)

    return derive_conv_template(
        render,
        name=name,
        bos=None if text is None or bos is None else (text, bos),
        stop_strings=[tokenizer.text_of(token) for token in stop_token_ids],
        stop_token_ids=stop_token_ids,
    )


def tokenizer_of(files: Mapping[str, bytes]) -> Tokenizer:
    """Return the tokenizer in `files`."""
    config = json.loads(files["tokenizer_config.json"])
    fast = load_tokenizer_json(files["tokenizer.json"], lambda problem: ArtefactError(f"`tokenizer.json` {problem}"))
    return Tokenizer(fast, config)


def template_of(files: Mapping[str, bytes], tokenizer: Tokenizer) -> ChatTemplate | None:
    """Return the chat template in `files`, or None if there is none. Raises ArtefactError if it cannot be used."""
    source = select_template(tokenizer.config.get("chat_template"))
    if source is None and "chat_template.jinja" in files:
        source = files["chat_template.jinja"].decode()
    return None if source is None else ChatTemplate(source, tokenizer.special_tokens)
