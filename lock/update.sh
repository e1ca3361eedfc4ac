#!/usr/bin/env bash
# Resolves the newest versions that pyproject.toml allows, for every platform and Python, and writes them with their
# hashes: base (what runs and compiles models), web, test, demo, sbom. Needs uv (pip install uv).
#
# torch and what CUDA builds of it need are left out: which build fits depends on the machine, so it has a version only.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=(torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc
  nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse
  nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx)

compile() { # compile NAME PYTHON ARGUMENT...
  local name=$1 python=$2
  shift 2
  uv pip compile --quiet --universal --generate-hashes --no-annotate --upgrade \
    --custom-compile-command "lock/update.sh" --python-version "$python" --output-file "lock/$name.txt" "$@"
}

compile base 3.10 pyproject.toml lock/build.in
compile web 3.10 pyproject.toml lock/build.in --extra web --constraints lock/base.txt
compile test 3.11 pyproject.toml lock/build.in --extra test --constraints lock/web.txt \
  $(printf -- '--no-emit-package %s ' "${torch[@]}")
compile demo 3.10 --no-deps lock/demo.in
compile sbom 3.10 lock/sbom.in
