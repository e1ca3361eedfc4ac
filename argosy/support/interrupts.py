"""Ctrl-C while native code runs that takes the signal for itself: the context managers here see that none is lost.

The solver with which TVM proves bounds installs a handler of its own for some milliseconds at a time, and drops what
arrives meanwhile. Where signals cannot be blocked (Windows) the context managers do nothing.
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
    """A Ctrl-C within the block counts at its end; threads that start within it never take one.

    Libraries that start threads when they are imported belong in here: for `ctrl_c_kept` there must be no other thread
    that would take the signal.
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
    """Within the block a thread of its own waits for Ctrl-C and has Python's handler called in the main thread.

    That thread takes the signal without any handler, so it does not matter whose is installed. Programs started within
    the block would inherit that Ctrl-C is blocked: start them outside, and wait for nothing inside, as a wait of the
    main thread is not cut short. In other than the main thread nothing is done.
    """
    if not _CAN_BLOCK or threading.current_thread() is not threading.main_thread():
        yield
        return
    end = signal.SIGUSR2  # sent to the listener alone, which waits for it: nobody's handler runs

    def listen() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # other signals are not for this thread
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
