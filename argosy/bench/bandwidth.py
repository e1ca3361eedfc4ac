"""Measure memory bandwidth: print, as JSON, the bytes per second that some threads read from a buffer.

python -m argosy.bench.bandwidth THREADS BYTES REPEATS

Each thread reads its own part of the buffer many times, as the dot product of its two halves, which NumPy computes with
AVX or NEON and which writes nothing. A buffer far larger than the caches measures memory; one of the size of a model's
weights gives an upper bound for a decode step, caches included.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

SECONDS = 0.15  # least duration of a sample


def stream(threads: int, nbytes: int, repeats: int) -> list[float]:
    """Return `repeats` samples of bytes per second."""
    import numpy as np

    floats = max(2, nbytes // threads // 4 // 2 * 2)
    parts: list[np.ndarray] = [np.full(floats, 1.0, np.float32) for _ in range(threads)]

    def read(part: np.ndarray, times: int) -> None:
        half = floats // 2
        for _ in range(times):
            part[:half].dot(part[half:])

    def sample(times: int) -> float:
        workers = [threading.Thread(target=read, args=(part, times)) for part in parts]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - started

    sample(1)
    times = max(1, round(SECONDS / max(1e-6, sample(1))))
    return [floats * 4 * threads * times / sample(times) for _ in range(repeats)]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    print(json.dumps({"samples": stream(*(int(word) for word in sys.argv[1:]))}))
