"""Type-check the packages as they are installed, where the folder `compiler` is `argosy.compiler`.

Link the modules of the packages that setup.py lists into `build/types` and run mypy there. Arguments go to mypy.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = ROOT / "build" / "types"


def lay_out(folders: dict[str, Path]) -> dict[str, str]:
    """Link every module to where it is installed; return each source by the path that mypy reports."""
    shutil.rmtree(LAYOUT / "argosy", ignore_errors=True)
    sources: dict[str, str] = {}
    for package, folder in folders.items():
        installed = Path(*package.split("."))
        (LAYOUT / installed).mkdir(parents=True)
        for source in sorted(folder.glob("*.py")):
            (LAYOUT / installed / source.name).symlink_to(source)
            sources[(installed / source.name).as_posix()] = source.relative_to(ROOT).as_posix()
    return sources


def main() -> int:
    """Run mypy and report what it finds under the names of the source files."""
    sources = lay_out(runpy.run_path(str(ROOT / "setup.py"))["packages"]())
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "argosy"]
    done = subprocess.run([*command, *sys.argv[1:]], cwd=LAYOUT, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        path, colon, rest = line.partition(":")
        print(f"{sources.get(path, path)}{colon}{rest}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
