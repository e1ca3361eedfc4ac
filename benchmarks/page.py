"""The JSON of `quick.py` goes in; the page `docs/performance.md`, with its figures and how they came about, comes out.

python benchmarks/page.py dist/out/bench/quick.json > docs/performance.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from summary import Sample

from argosy.support.text import human_size, human_time

CASES = {
    "prefill_128": "prefill, 128 tokens",
    "prefill_512": "prefill, 512 tokens",
    "decode_context_8": "decode, context 8",
    "decode_context_512": "decode, context 512",
    "decode_context_8_batch_4": "decode, 4 sequences, context 8",
}
HOW = """\
Measured by [`benchmarks/quick.py`](../benchmarks/quick.py), and this page written from its JSON:

```sh
python benchmarks/quick.py --output dist/out/bench/quick.json
python benchmarks/page.py dist/out/bench/quick.json > docs/performance.md
```

Every figure is a median with its range in brackets. Engines stay loaded and take turns request by request on the same
token ids, with the same number of threads; a ratio is taken within each turn, and its median is shown. Absolute figures
of a shared machine drift: compare ratios."""


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    return "\n".join(["# Performance", "", HOW, "", *_setup(report), "", *_build(report), "", *_speed(report)])


def _setup(report: dict[str, Any]) -> Iterator[str]:
    machine, versions, request = report["machine"], report["versions"], report["request"]
    yield (
        f"Model `{request['model']}` in `{request['quantization']}`. {machine['cpu']}, {machine['threads']} threads, "
        f"{human_size(machine['memory_bytes'])} of memory, {machine['system']}."
    )
    yield (
        f"Argosy {versions['argosy']} ({versions['commit']}), TVM {versions['apache-tvm']}, "
        f"Python {versions['python']}, {report['when'][:10]}. Load of the machine before and after: "
        f"{machine['load_before'][0]}, {machine['load_after'][0]}."
    )


def _build(report: dict[str, Any]) -> Iterator[str]:
    build, chat, sizes = report["build"], report["chat"], report["sizes"]
    yield "## Build, load, memory"
    yield ""
    yield "| what | figure |"
    yield "|---|---|"
    yield f"| build from nothing, whole process | {human_time(build['process_seconds'])} |"
    for name, seconds in build["stages"].items():
        yield f"| build: {name} | {human_time(seconds)} |"
    yield f"| peak memory of converting | {human_size(build['peak_bytes']['convert'])} |"
    yield f"| peak memory of the whole build | {human_size(build['peak_bytes']['build'])} |"
    yield f"| weights | {human_size(sizes['weights'])} |"
    yield f"| library | {human_size(sizes['library'])} |"
    yield f"| load, every byte checked | {_seconds(chat['load_seconds'])} |"
    yield f"| process start to first token | {_seconds(chat['first_token_seconds'])} |"
    yield f"| peak memory of chatting | {human_size(chat['peak_bytes'])} |"


def _speed(report: dict[str, Any]) -> Iterator[str]:
    peer = report["peer"]
    yield "## Speed"
    yield ""
    if "ratio" not in peer:
        yield "| tokens per second | Argosy |"
        yield "|---|---|"
        for name, rate in report["speed"].items():
            yield f"| {CASES[name]} | {_rate(rate)} |"
        return
    yield f"| tokens per second | Argosy | {peer['name']} {peer['version']} | ratio |"
    yield "|---|---|---|---|"
    for name, rate in report["speed"].items():
        ratio = peer["ratio"][name]
        yield f"| {CASES[name]} | {_rate(rate)} | {_rate(peer['speed'][name])} | {ratio['median']:.2f} |"
    yield ""
    yield (
        f"llama.cpp runs `{peer['weights'].split(',')[0]}` as shipped ({human_size(peer['weights_bytes'])} with its "
        f"tokenizer), Argosy weights of {human_size(report['sizes']['weights'])}."
    )


def _rate(sample: Sample) -> str:
    return f"{sample['median']:.1f} ({sample['min']:.1f} to {sample['max']:.1f})"


def _seconds(sample: Sample) -> str:
    return f"{human_time(sample['median'])} ({human_time(sample['min'])} to {human_time(sample['max'])})"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
