"""A model and a scheme go in; a short benchmark of the whole path, as JSON and as tables on stderr, comes out.

    python benchmarks/quick.py --output dist/out/bench/quick.json

It is `argosy build` where the artefact is not up to date, and then `argosy bench --quick --build`, beside llama.cpp
where that is installed. Nothing here fails because something was slow.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from argosy.bench.peers import PEERS
from argosy.dist.naming import artefact_name, output_root


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="A short benchmark of building, loading and running a model.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--model", default="smollm2-135m", metavar="M")
    parser.add_argument("--quantization", default="q4f16_1", metavar="Q")
    parser.add_argument("--no-peer", action="store_true", help="do not run llama.cpp beside it")
    wishes = parser.parse_args()
    wishes.output.parent.mkdir(parents=True, exist_ok=True)
    directory = output_root() / artefact_name(wishes.model, wishes.quantization)
    peer = PEERS["llama.cpp"]
    installed = importlib.util.find_spec(peer.module) is not None
    beside = ["--vs", peer.name] if installed and not wishes.no_peer else []
    for arguments in (
        ["build", "--model", wishes.model, "--quantization", wishes.quantization, "--output", directory],
        ["bench", directory, "--quick", "--build", *beside, "--json", wishes.output],
    ):
        code = subprocess.run([sys.executable, "-m", "argosy.cli", *map(str, arguments)], stdout=sys.stderr).returncode
        if code != 0:
            return code
    print(wishes.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
