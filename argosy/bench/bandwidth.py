"""A number of threads and of bytes go in, the bytes a second that they read come out, as JSON samples.

python -m argosy.bench.bandwidth THREADS BYTES REPEATS

Each thread sums its own part of one buffer (a dot product with AVX or NEON, of two halves so that memory is read and
nothing is written), many times over. A buffer far larger than the caches gives what memory delivers; one of the size of
a model's weights gives what a decode step could at best read them with, caches included.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

SECONDS = 0.15  # of one sample, at least


def stream(threads: int, nbytes: int, repeats: int) -> list[float]:
    """`repeats` samples of bytes a second."""
    import numpy as np

    each = max(2, nbytes // threads // 4 // 2 * 2)
    parts: list[np.ndarray] = [np.full(each, 1.0, np.float32) for _ in range(threads)]

    def read(part: np.ndarray, times: int) -> None:
        half = each // 2
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
    return [each * 4 * threads * times / sample(times) for _ in range(repeats)]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    print(json.dumps({"samples": stream(*(int(word) for word in sys.argv[1:]))}))
