#!/usr/bin/env bash
# gpu-pack.sh FOLDER - builds, on a machine with cargo and nvcc, what gpu.sh needs on a machine without either: the test
# and bench programs with CUDA kernels in them, stripped, the peers and the script itself, as a folder and as
# FOLDER.tar.gz. No GPU is needed here.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: gpu-pack.sh FOLDER}
mkdir -p "$folder"
export CHTSL_CUDA=require
# program NAME CARGO_ARGUMENTS...: copies the executable that cargo built for a target.
program() {
    local name=$1; shift
    local path
    path=$(cargo "$@" --no-run --message-format=json 2>/dev/null |
        sed -n "s/.*\"name\":\"$name\".*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -1)
    [ -n "$path" ] || { echo "cargo $* built no program $name" >&2; exit 1; }
    cp "$path" "$folder/$name" && strip "$folder/$name"
}
for test in ops layer topology; do program "$test" test --test "$test"; done
for bench in device families; do program "$bench" bench --bench "$bench"; done
cargo build --release
cp target/release/chtsl "$folder/chtsl" && strip "$folder/chtsl"
cp benches/gpu.sh "$folder/" && cp -r benches/peers "$folder/peers"
git rev-parse HEAD > "$folder/commit"
# The programs hold the same kernels several times over: packed they are a fifth.
tar -C "$(dirname "$folder")" -czf "$folder.tar.gz" "$(basename "$folder")"
du -sh "$folder" "$folder.tar.gz"
