"""List the packages to install, so that a new folder of code needs no second entry elsewhere."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
# Package -> folder. Folders are laid out in the order in which a model passes through them.
FOLDERS = {
    "argosy": "argosy",
    "argosy.model_defs": "model_defs",
    "argosy.quant": "quant",
    "argosy.compiler": "compiler",
    "argosy.dist": "dist",
    "argosy.runtime_bindings": "runtime_bindings",
}


def packages() -> dict[str, Path]:
    """Return the folder of every package: those of `FOLDERS`, and each below with an `__init__.py`."""
    found: dict[str, Path] = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("__init__.py")):
            parts = path.parent.relative_to(ROOT / folder).parts
            if not {"out", "node_modules"} & set(parts):  # outputs, and dependencies of the web binding
                found[".".join((package, *parts))] = path.parent
    return found


if __name__ == "__main__":
    setup(packages=list(packages()), package_dir=FOLDERS)
