"""Try a tokenizer on texts that are hard for one, in a process of its own with limits on time and memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from argosy.support.errors import CheckpointError
from argosy.support.text import one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

RUN = 4000  # characters of a repeated text
SHORT_RUN = 60  # of each letter; enough for what takes exponential time
LETTERS = "".join(map(chr, range(0x21, 0x7F)))
AFTER = "\x01 " + LETTERS  # ends the run, and holds whatever a regular expression may want after it
SECONDS = 5.0  # of processor time, and as many for each `BYTES_PER_LIMIT` of the file
BYTES_PER_LIMIT = 8 << 20
MEMORY = 1 << 30  # bytes, and `MEMORY_PER_BYTE` for each of the file
MEMORY_PER_BYTE = 40
WAIT = 20.0  # times the processor time, for a machine that is busy
PROGRAM = """
import sys
limits, sys.path[:] = sys.argv[1:3], sys.argv[3:]
from argosy.support.tokenizer_probe import main
main(*limits)
"""
REPEATED = (
    "a", "A", " ", "\n", "\t", "\r\n", " a", "a ", "ab", "1", "12 ", ".", "!?", "_", "\0", "\u2581", "\u0120", "é",
    "e\u0301", "日", "\ufdfa", "🙂", "\u200d", "\ufffd", "<", "</", "<|", "'s", "aA1 .", "\u0345", "\U0010ffff",
)  # fmt: skip
TEXTS = (
    "",
    "The quick brown fox jumps over the lazy dog. It's 12345 + 6.78 = 9!\n\n\tdef f(x):  # \r\n",
    "é ü Straße 日本語 한국어 مرحبا 🙂👍🏽",
    "".join(map(chr, range(0x20, 0x2500))),
)


def probe_tokenizer(data: bytes, what: str) -> None:
    """Raise CheckpointError, naming `what`, if a tokenizer takes too long, too much memory, or ends its process."""
    seconds = SECONDS * (1 + len(data) / BYTES_PER_LIMIT)
    code = (
        "import sys; sys.path[:] = sys.argv[3:]; from argosy.support.tokenizer_probe import main; main(*sys.argv[1:3])"
    )
    limits = [str(seconds), str(MEMORY + MEMORY_PER_BYTE * len(data))]
    command = [sys.executable, "-I", "-c", code, *limits, *(path for path in sys.path if path)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    hint = "get the model from a source that you trust"
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=WAIT * seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{what} takes too long to encode a short text", hint) from None
    if done.returncode < 0 or b"MemoryError" in done.stderr or b"memory allocation" in done.stderr:
        raise CheckpointError(f"{what} takes too much time or memory to encode a short text", hint)
    if done.returncode or done.stdout:
        reason = one_line((done.stdout or done.stderr).decode("utf-8", "replace").strip().split("\n")[-1], 160)
        raise CheckpointError(f"{what} fails to encode a text: `{reason}`", hint)


def main(seconds: str, memory: str) -> None:
    """Read a tokenizer from standard input, use it, and print what fails."""
    _limit(float(seconds), int(memory))
    from tokenizers import Tokenizer

    started = time.process_time()
    try:
        tokenizer = Tokenizer.from_str(sys.stdin.buffer.read().decode())
        added = list(tokenizer.get_added_tokens_decoder().values())[:64]
        runs = [text * (RUN // len(text)) for text in REPEATED] + [letter * SHORT_RUN for letter in LETTERS]
        texts = [*TEXTS, *(run + AFTER for run in runs), "x ".join(token.content for token in added)]
        for text in texts:
            _try(tokenizer, text)
            if time.process_time() - started > float(seconds):
                print("it takes too long")
                return
    except BaseException as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "PanicException":
            print(f"{type(error).__name__}: {error}")


def _try(tokenizer: Tokenizer, text: str) -> None:
    """Encode a text twice, and decode it."""
    try:
        ids = tokenizer.encode(text).ids
        again = tokenizer.encode(text).ids
        tokenizer.decode(ids, skip_special_tokens=False)
    except MemoryError:
        raise
    except Exception:  # of the library, which has no class of its own: people see it as one sentence when it happens
        return
    if ids != again:
        print("it encodes one text in two ways")


def _limit(seconds: float, memory: int) -> None:
    """Limit this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the caller's time limit remains
        return
    limits = ((resource.RLIMIT_CPU, int(2 * seconds) + 1), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0))
    for limit, value in limits:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
