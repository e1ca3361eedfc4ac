"""`argosy.support.interrupts`: Ctrl-C arrives although native code installs a handler, and waits where it should."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from argosy.support.interrupts import ctrl_c_deferred, ctrl_c_kept

# Runs in its own process, because threads of libraries that other tests import would receive the signal here. Without
# `ctrl_c_kept`, the handler that drops Ctrl-C, like the solver's, would leave `heard` empty.
_DROPPED = """
import ctypes, os, signal, time
from argosy.support.interrupts import ctrl_c_kept
heard = []
def hear(number, frame):
    heard.append(number)
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, hear)
c = ctypes.CDLL(None)
drop = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
c.signal.restype = ctypes.c_void_p
try:
    with ctrl_c_kept():
        before = c.signal(signal.SIGINT, drop)
        os.kill(os.getpid(), signal.SIGINT)
        c.signal(signal.SIGINT, ctypes.c_void_p(before))
        for _ in range(1000):  # the handler runs between two of them
            time.sleep(0.01)
    print("lost")
except KeyboardInterrupt:
    print("kept", heard == [signal.SIGINT], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_a_handler_of_native_code_that_drops_ctrl_c_does_not_see_it() -> None:
    done = subprocess.run([sys.executable, "-c", _DROPPED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("kept True set()\n", "")


def test_a_deferred_ctrl_c_counts_at_the_end() -> None:
    program = """
import os, signal
from argosy.support.interrupts import ctrl_c_deferred
try:
    with ctrl_c_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        print("in the block")
    print("lost")
except KeyboardInterrupt:
    print("after it")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("in the block\nafter it\n", "")


@pytest.mark.parametrize("block", [ctrl_c_deferred, ctrl_c_kept])
def test_the_signals_of_a_thread_are_as_before_also_after_an_error(block: type) -> None:
    before, threads = signal.pthread_sigmask(signal.SIG_BLOCK, ()), threading.active_count()
    with pytest.raises(ZeroDivisionError), block():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        raise ZeroDivisionError
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert threading.active_count() == threads


def test_in_another_thread_nothing_is_done() -> None:
    seen: list[object] = []

    def work() -> None:
        with ctrl_c_kept():
            seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [set()]
