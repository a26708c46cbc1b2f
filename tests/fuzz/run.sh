#!/usr/bin/env bash
# run.sh [SECONDS] - fuzzes the readers of shards, manifests and safetensors files for SECONDS each (default 60), from
# files that the program wrote. Needs `cargo install cargo-fuzz` and a C++ compiler; finds stay in target/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
export CHTSL_CUDA=off CARGO_TARGET_DIR=$PWD/target/fuzz
cargo fuzz build --fuzz-dir tests/fuzz -s none
seeds=$CARGO_TARGET_DIR/seeds
rm -rf "$seeds"
mkdir -p "$seeds"/{shard,manifest,safetensors}
cargo run --release --quiet -- prepare --input datasets/tiny.jsonl --train-tokenizer 270 --out "$seeds/data" >/dev/null
cp "$seeds"/data/*.bin "$seeds/shard"
# One of nobody's: 1,536 tokens without our mark, which nothing is hashed in.
patch() { printf "$1" | dd of="$seeds/shard/nobody.bin" bs=1 seek="$2" conv=notrunc status=none; }
head -c 4096 "$seeds"/data/train-00000.bin >"$seeds/shard/nobody.bin"
patch '\x00\x06\x00\x00' 8
patch '\x00\x00\x00\x00' 32
cp "$seeds/data/dataset.json" tests/golden/checkpoint/*/manifest.json --backup=numbered "$seeds/manifest"
cp tests/golden/checkpoint/format-2/{model,optim}.safetensors "$seeds/safetensors"
for target in shard manifest safetensors; do
  corpus=$CARGO_TARGET_DIR/corpus/$target
  mkdir -p "$corpus"
  echo "fuzzing $target"
  log=$CARGO_TARGET_DIR/$target.log
  status=0
  cargo fuzz run --fuzz-dir tests/fuzz -s none "$target" "$corpus" "$seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$CARGO_TARGET_DIR/$target-" >"$log" 2>&1 || status=$?
  grep -E "panicked|ERROR|SUMMARY|DONE|stat::" "$log" || true
  [[ $status == 0 ]] || { echo "see $log" >&2; exit "$status"; }
done
rm -rf /dev/shm/chtsl-fuzz-* "${TMPDIR:-/tmp}"/chtsl-fuzz-*
if find "$CARGO_TARGET_DIR" -maxdepth 1 -name '*-crash-*' -o -maxdepth 1 -name '*-timeout-*' -o -maxdepth 1 -name '*-oom-*' | grep .; then
  echo "found something" >&2
  exit 1
fi
