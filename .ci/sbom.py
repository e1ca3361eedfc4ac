"""Write software bills of materials (CycloneDX) beside the wheels in a directory: of Python, and of the chat page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python_parts() -> dict[str, object]:
    """Return what a wheel needs to run, with the versions and hashes of `lock/base.txt`."""
    command = [
        sys.executable, "-m", "cyclonedx_py", "requirements", str(ROOT / "lock" / "base.txt"),
        "--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "library", "--output-reproducible", "--of", "JSON",
    ]  # fmt: skip
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def page_parts() -> dict[str, object]:
    """Return what the chat page was made from and with, as `npm` knows it from the lock file: it bundles some of its
    development dependencies."""
    command = ["npm", "sbom", "--sbom-format", "cyclonedx", "--package-lock-only"]
    folder = ROOT / "runtime_bindings" / "web"
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout)


def main() -> None:
    """Write one pair of files for each wheel."""
    folder = Path(sys.argv[1])
    for wheel in sorted(folder.glob("*.whl")):
        for kind, parts in (("python", python_parts()), ("page", page_parts())):
            path = folder / f"{wheel.stem}.{kind}.cdx.json"
            path.write_text(json.dumps(parts, indent=2) + "\n")
            print(f"{path}: {len(parts['components'])} components")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
