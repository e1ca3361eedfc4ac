"""Let one object at a time hold something that several threads may ask for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable


class Claim:
    """Who holds something: an object, for as long as it lives and does not give up.

    A signal handler may raise between any two calls of Python code. That cannot leave a claim behind which nobody can
    give up, as it can with a lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for a comparison
        self._holder: weakref.ref[object] | None = None

    @property
    def holder(self) -> object | None:
        """The object that holds it, or None."""
        reference = self._holder
        return None if reference is None else reference()

    def take(self, holder: object, busy: Callable[[], Exception]) -> None:
        """Make `holder` the holder. Raises what `busy` returns if another object is."""
        reference = weakref.ref(holder)
        with self._lock:
            taken = self.holder in (None, holder)
            if taken:
                self._holder = reference
        if not taken:
            raise busy()

    def give_up(self, holder: object) -> None:
        """Make nobody the holder, if it is `holder`. Takes no lock, because finalisers call it."""
        if self.holder is holder:
            self._holder = None
