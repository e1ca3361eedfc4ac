"""Keep Ctrl-C from being lost while native code runs that installs its own signal handler.

The solver that TVM proves bounds with installs a handler for some milliseconds at a time, and drops signals that arrive
meanwhile. Where signals cannot be blocked (Windows), these context managers do nothing.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
from collections.abc import Iterator

_CAN_BLOCK = hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigwait")


@contextlib.contextmanager
def ctrl_c_deferred() -> Iterator[None]:
    """Defer a Ctrl-C to the end of the block; threads started within it never receive one.

    Import libraries that start threads within such a block: `ctrl_c_kept` needs all other threads to block the signal.
    """
    if not _CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Let a thread wait for Ctrl-C within the block, and have Python's handler called in the main thread.

    The thread receives the signal without any handler, so it does not matter whose is installed. Do not start programs
    within the block, which would inherit that Ctrl-C is blocked, nor wait for anything, because the wait would not be
    interrupted. In any thread but the main one this does nothing.
    """
    if not _CAN_BLOCK or threading.current_thread() is not threading.main_thread():
        yield
        return
    end = signal.SIGUSR2  # sent only to the listener, which waits for it, so no handler runs

    def listen() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # leave other signals to other threads
        while (number := signal.sigwait({signal.SIGINT, end})) != end:
            _thread.interrupt_main(signal.Signals(number))

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, end})
    listener = threading.Thread(target=listen, name="ctrl-c", daemon=True)
    try:
        listener.start()
        try:
            yield
        finally:
            assert listener.ident is not None
            signal.pthread_kill(listener.ident, end)
            listener.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
