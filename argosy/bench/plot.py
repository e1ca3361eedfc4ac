"""Draw the speeds of a report as bars by case, each labelled with its rate and our ratio to it.

The picture is SVG without fonts or scripts, with colours for light and dark pages. PNG needs `rsvg-convert`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from argosy.bench.tables import peers_shown
from argosy.support.errors import ArgosyError, UsageError
from argosy.support.files import atomic_path

CONVERTER = "rsvg-convert"
WIDTH, LABELS, BARS = 860, 200, 390  # least width of the picture, width of the labels, length of the longest bar
BAR, GAP, GROUP = 15, 4, 18  # height of a bar, space between bars, space between cases
MARGIN, TOP = 16, 62
LETTER = 6.7  # approximate width of a letter
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #59636e }
.ours { fill: #0969da }
.also { fill: #54aeff }
.peer { fill: #afb8c1 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.quiet { fill: #9198a1 }
.ours { fill: #2f81f7 }
.also { fill: #1f5fb8 }
.peer { fill: #59636e }
}"""


def check_plot(path: Path) -> None:
    """Raise UsageError if `path` cannot be drawn here; to be called before anything is measured."""
    if path.suffix == ".svg":
        return
    if path.suffix != ".png":
        raise UsageError(f"`--plot {path}` has neither of the endings .svg and .png")
    if shutil.which(CONVERTER) is None:
        sentence = f"`--plot {path}` needs the program `{CONVERTER}`, which is not installed"
        raise UsageError(sentence, "apt install librsvg2-bin, or give a file that ends in .svg")


def write_plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw `report` into `path`."""
    with atomic_path(path) as temporary:
        if path.suffix == ".svg":
            temporary.write_text(svg(report), encoding="utf-8")
            return
        command = [CONVERTER, "--zoom", "2", "--background-color", "white", "--output", str(temporary)]
        done = subprocess.run(command, input=svg(report), capture_output=True, text=True)
        if done.returncode != 0:
            raise ArgosyError(f"`{CONVERTER}` cannot draw `{path}`: {done.stderr.strip()}")


def svg(report: Mapping[str, Any]) -> str:
    """Draw all engines; in each case the longest bar is the fastest engine."""
    by_name = {engine["name"]: engine for engine in report["engines"]}
    parts, y, right = [], TOP, float(WIDTH - MARGIN)
    for case in report["cases"]:
        rates = {name: engine["speed"][case["name"]]["median"] for name, engine in by_name.items()}
        parts.append(_text(MARGIN, y + BAR - 3, case["title"]))
        for name, rate in rates.items():
            width = max(1.0, BARS * rate / max(rates.values()))
            parts.append(
                f'<rect class="{_kind(report, name)}" x="{MARGIN + LABELS}" y="{y}" width="{width:.1f}" '
                f'height="{BAR}" rx="2"><title>{escape(name)}</title></rect>'
            )
            label = f"{rate:.0f}" if rate >= 99.5 else f"{rate:.1f}"
            words = f"{label}  {name}{''.join(_beside(report, name, case['name']))}"
            parts.append(_text(MARGIN + LABELS + width + 6, y + BAR - 3, words, "quiet"))
            right = max(right, MARGIN + LABELS + width + 6 + LETTER * len(words))
            y += BAR + GAP
        y += GROUP
    wide = round(right + MARGIN)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {y}" width="{wide}" height="{y}" role="img">',
            f"<title>Tokens per second, {escape(report['model'])}</title>",
            f"<style>\n{STYLE}\n</style>",
            _text(MARGIN, 24, f"Tokens per second, {report['model']}", "title"),
            _text(MARGIN, 44, _subtitle(report), "quiet"),
            *parts,
            "</svg>\n",
        ]
    )


def _subtitle(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    ratios = "; x: times as fast as that program" if any(report["ratios"].values()) else ""
    return f"{machine['cpu']}, {report['threads']} threads, {report['when'][:10]}; longer is faster{ratios}"


def _kind(report: Mapping[str, Any], name: str) -> str:
    if name not in report["ratios"]:
        return "peer"
    return "ours" if name == next(iter(report["ratios"])) else "also"


def _beside(report: Mapping[str, Any], peer: str, case: str) -> Iterator[str]:
    """Yield ` (1.41x)`, our ratio to a peer, for the artefact of the same bits, else for the first one."""
    same = [ours for ours, peers in report["same_bits"].items() if peer in peers]
    for ours in [*same, *report["ratios"]][:1]:
        if peer in peers_shown(report, ours):
            yield f"  ({report['ratios'][ours][peer][case]['median']:.2f}x)"


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y}">{escape(words)}</text>'
