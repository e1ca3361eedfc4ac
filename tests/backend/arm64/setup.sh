#!/usr/bin/env bash
# Install what the arm64 tests need: qemu and a cross compiler (on Debian and Ubuntu, as root), and TVM's libraries for
# arm64 in .venv/arm64 (downloads 100 MB, keeps 6 MB). On failure, print the reason in one line and exit with 1.
set -euo pipefail
cd "$(dirname "$0")/../../.."

cannot() { echo "arm64: $*" >&2; exit 1; }
PYTHON=.venv/bin/python
[ -x "$PYTHON" ] || PYTHON=$(command -v python3) || cannot "there is no Python"

if ! command -v qemu-aarch64 >/dev/null || ! command -v aarch64-linux-gnu-g++ >/dev/null; then
  packages="qemu-user g++-aarch64-linux-gnu libc6-dev-arm64-cross"
  [ "$(uname -m)" != aarch64 ] || cannot "this machine is 64-bit ARM itself"
  command -v apt-get >/dev/null || cannot "no apt-get to install $packages with"
  [ "$(id -u)" = 0 ] || cannot "not root, so nothing is installed: apt-get install $packages"
  export DEBIAN_FRONTEND=noninteractive
  install="timeout 120 apt-get install -qq -y --no-install-recommends $packages"
  $install >/dev/null 2>&1 || { timeout 60 apt-get update -qq >/dev/null 2>&1 && $install >/dev/null 2>&1; } ||
    cannot "apt-get could not install $packages"
fi

made=.venv/arm64
pins=$("$PYTHON" -c '
from importlib.metadata import version
print(*(f"{name}=={version(name)}" for name in ("apache-tvm", "apache-tvm-ffi")))')
[ "$(cat "$made/pins" 2>/dev/null)" != "$pins" ] || exit 0
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
# shellcheck disable=SC2086
timeout 150 "$PYTHON" -m pip -qq --disable-pip-version-check --no-input download --no-deps --only-binary=:all: \
  --platform manylinux_2_28_aarch64 --python-version 311 --dest "$wheels" $pins 2>/dev/null ||
  cannot "pip could not fetch $pins for manylinux_2_28_aarch64"
mkdir -p "$made"
"$PYTHON" - "$wheels" "$made" <<'END'
import pathlib, sys, zipfile

wheels, made = map(pathlib.Path, sys.argv[1:])
wanted = {"libtvm_ffi.so", "libtvm_runtime.so", "libtvm_runtime_extra.so"}
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if pathlib.PurePosixPath(name).name in wanted:
                (made / pathlib.PurePosixPath(name).name).write_bytes(archive.read(name))
missing = wanted - {path.name for path in made.iterdir()}
sys.exit(f"arm64: the wheels hold no {', '.join(sorted(missing))}" if missing else 0)
END
echo "$pins" >"$made/pins"
