"""`argosy tokenize`: show the tokens of a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from argosy.cli import console
from argosy.cli.base import ModelName, json_option
from argosy.cli.base import command as argosy_command
from argosy.support.errors import UsageError

if TYPE_CHECKING:
    from argosy.dist.artefact import Artefact
    from argosy.runtime_bindings.chat.tokenizer import Tokenizer


@argosy_command(
    "tokenize",
    examples=[
        'argosy tokenize smollm2-135m "Hello, world!"',
        'argosy tokenize smollm2-135m --chat "Hello!" --json',
        "argosy tokenize smollm2-135m --decode 19556 28 905 17",
        "cat notes.txt | argosy tokenize smollm2-135m --count",
    ],
)
@click.argument("model", type=ModelName(), metavar="MODEL")
@click.argument("words", metavar="[TEXT]", nargs=-1)
@click.option("--chat", is_flag=True, help="Take TEXT as a question, and put it into the model's chat template.")
@click.option("--decode", is_flag=True, help="Take TEXT as token ids, and print the text that they stand for.")
@click.option("--count", is_flag=True, help="Print the number of tokens only.")
@json_option
def command(model: str, words: tuple[str, ...], chat: bool, decode: bool, count: bool, as_json: bool) -> None:
    """Show the tokens of TEXT, or of stdin, with their ids.

    Special tokens that a model puts at the beginning of a text are shown too. MODEL is a name of `argosy ls`.
    """
    from argosy.dist.artefact import open_artefact
    from argosy.dist.store import find_artefact
    from argosy.runtime_bindings.chat.tokenizer import load_tokenizer

    if decode and (chat or count):
        raise UsageError("`--decode` goes with neither `--chat` nor `--count`", "leave one of them out")
    artefact = open_artefact(find_artefact(model))
    if words and words != ("-",):
        text = " ".join(words)
    elif console.is_terminal(sys.stdin) and not words:
        raise UsageError("there is no text", f"argosy tokenize {model} TEXT, or a pipe")
    else:
        text = console.read_text(sys.stdin)
    tokenizer = load_tokenizer(artefact)
    if decode:
        _decode(text, tokenizer, artefact, as_json)
        return
    tokens = _encode(text, tokenizer, chat)
    if as_json:
        rows = [
            {"token": token, "text": tokenizer.text_of(token), "bytes": list(tokenizer.bytes_of(token))}
            for token in tokens
        ]
        console.data_json({"count": len(tokens)} | ({} if count else {"tokens": rows}))
    elif count:
        console.data(str(len(tokens)))
    else:
        console.table(("token", "text"), ((str(token), repr(tokenizer.text_of(token))) for token in tokens))
        console.say(f"{len(tokens)} token{'' if len(tokens) == 1 else 's'}")


def _encode(text: str, tokenizer: Tokenizer, chat: bool) -> list[int]:
    if not chat:
        return tokenizer.encode(text, add_special_tokens=True)
    from argosy.runtime_bindings.chat.template import ChatTemplate, select_template

    source = select_template(tokenizer.config.get("chat_template"))
    if source is None:
        raise UsageError("this model has no chat template", "leave `--chat` out")
    template = ChatTemplate(source, tokenizer.special_tokens)
    return tokenizer.encode(template.render([{"role": "user", "content": text}]))


def _decode(text: str, tokenizer: Tokenizer, artefact: Artefact, as_json: bool) -> None:
    size = artefact.config.vocab_size
    tokens = []
    for word in text.replace(",", " ").replace("[", " ").replace("]", " ").split():
        if not word.isascii() or not word.isdigit() or len(word) > 10 or int(word) >= size:
            raise UsageError(f"`{word}` is not a token id", f"ids are from 0 to {size - 1}")
        tokens.append(int(word))
    decoded = b"".join(map(tokenizer.bytes_of, tokens)).decode("utf-8", errors="replace")
    if as_json:
        console.data_json({"text": decoded, "tokens": tokens})
    else:
        console.data(decoded)
