"""Run a short benchmark of building, loading and running a model; write JSON, and tables to stderr.

    python benchmarks/quick.py --output dist/out/bench/quick.json

This runs `argosy build`, which skips what is up to date, then `argosy bench --quick --build`, beside llama.cpp if that
is installed. Nothing here fails because something was slow.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from argosy.bench.peers import PEER_PROGRAMS
from argosy.dist.naming import artefact_name, output_root


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="A short benchmark of building, loading and running a model.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    parser.add_argument("--model", default="smollm2-135m", metavar="M")
    parser.add_argument("--quantization", default="q4f16_1", metavar="Q")
    parser.add_argument("--no-peer", action="store_true", help="do not compare with llama.cpp")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    directory = output_root() / artefact_name(options.model, options.quantization)
    program = PEER_PROGRAMS["llama.cpp"]
    installed = importlib.util.find_spec(program.module) is not None
    beside = ["--vs", program.name] if installed and not options.no_peer else []
    for arguments in (
        ["build", "--model", options.model, "--quantization", options.quantization, "--output", directory],
        ["bench", directory, "--quick", "--build", *beside, "--json", options.output],
    ):
        code = subprocess.run([sys.executable, "-m", "argosy.cli", *map(str, arguments)], stdout=sys.stderr).returncode
        if code != 0:
            return code
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
