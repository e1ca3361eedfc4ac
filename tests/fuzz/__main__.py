"""Fuzz the readers by hand: `PYTHONPATH=tests python -m fuzz --inputs 1000000`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path

from fuzz.all_targets import TARGETS
from fuzz.engine import Fuzzer


def main() -> int:
    """Run the fuzzer, print what it did, and return 1 if it found a fault."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000, help="how many inputs (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time (default: never)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="child processes (default: one for each core)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random numbers (default: the time)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="fuzz this alone; may be repeated")
    parser.add_argument(
        "--saved", type=Path, default=Path("dist/out/fuzz"), help="where faults go (default: %(default)s)"
    )
    options = parser.parse_args()
    chosen = [TARGETS[name] for name in options.target or TARGETS]
    fuzzer = Fuzzer(chosen, options.saved, options.seed, options.jobs)
    begin = time.monotonic()
    fuzzer.run(options.inputs, 60 * options.minutes)
    print(f"seed {options.seed}, {time.monotonic() - begin:.0f} seconds, {options.jobs} processes")
    print(f"{'target':14} {'inputs':>9} {'accepted':>9} {'verdicts':>9} {'ms each':>8} {'faults':>7}")
    for name, tally in fuzzer.tallies.items():
        cost = 1000 * tally.seconds / max(tally.inputs, 1)
        counts = f"{tally.inputs:9} {tally.accepted:9} {len(tally.verdicts):9} {cost:8.2f} {len(tally.faults):7}"
        print(f"{name:14} {counts}")
    print(f"{sum(tally.inputs for tally in fuzzer.tallies.values())} inputs, {len(fuzzer.faults)} faults")
    for fault in fuzzer.faults:
        print(f"\n{fault}")
    return 1 if fuzzer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
