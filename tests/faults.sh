#!/usr/bin/env bash
# faults.sh [OUT] - the fault tests with the numbers of the record: 200 kills, every point of the file protocol, 200
# signals, 20,000 steps, a thousand mutants of every file kind. Takes about a quarter of an hour; writes what was seen to
# OUT (default: standard output), a line per scenario: what benches/record/faults.md is written from.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-/dev/stdout}
commit=$(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes')
export CHTSL_FAULTS=full
log=$(mktemp)
for program in mutants faults; do
    cargo test --test $program -- --nocapture --test-threads 2 2>&1 | tee -a "$log" | grep '^test ' >&2 || true
done
{
    echo "$(date -u +%F), $commit, $(nproc) cores"
    echo
    grep -ao 'fault: .*' "$log" | sed 's/^fault: /- /' | sort -V
} > "$out"
if grep -q '^test result: FAILED\|^error' "$log"; then
    echo "failures: see $log" >&2
    exit 1
fi
rm "$log"
