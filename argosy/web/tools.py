"""Find the programs that build and show the chat page: Node.js and a browser."""

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
    """Return the version of the program `node`, such as (20, 19, 2), or None if unknown."""
    try:
        printed = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
        return tuple(int(part) for part in printed.strip().removeprefix("v").split("."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_chromium() -> str | None:
    """Return the path of a browser of the Chromium family, which all have WebGPU, or None."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None and sys.platform == "darwin":
        programs = (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in MAC_BROWSERS)
        found = next((str(path) for path in programs if path.is_file()), None)
    return found


def can_open_browser() -> bool:
    """Return whether a browser can be opened: there is a display, or `BROWSER` is set."""
    if os.environ.get("BROWSER") or sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
