"""This machine goes in, the programs that the web parts use come out: Node.js builds the page, a browser shows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NODE_NEEDED = (20, 19)  # Vite's
BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
)  # fmt: skip
MAC_BROWSERS = ("Google Chrome", "Chromium", "Microsoft Edge")


def node_version(node: str) -> tuple[int, ...] | None:
    """(20, 19, 2) of the program `node`; None where it does not say."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
        return tuple(int(part) for part in said.strip().removeprefix("v").split("."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_chromium() -> str | None:
    """A browser of the Chromium family, which all have WebGPU: its path."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None and sys.platform == "darwin":
        programs = (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in MAC_BROWSERS)
        found = next((str(path) for path in programs if path.is_file()), None)
    return found


def can_open_browser() -> bool:
    """Whether a page can be shown: there is a display, or `BROWSER` says how."""
    if os.environ.get("BROWSER") or sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
