#!/usr/bin/env bash
# mutants.sh - breaks the kernels one line at a time, as kernels/mutants.txt lists, and demands that the tests of the
# operations notice. Each mutant is one .cu file compiled anew, not the test program; all cores are used.
#   mutants.sh            all
#   mutants.sh spmm       one family
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=$(cargo test --no-run --test ops --message-format json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
CHTSL_MUTANT_TESTS="$tests" CHTSL_MUTANT_FAMILY="${1:-}" cargo test -p chtsl-emulation --test emulation -- \
    --ignored --nocapture --exact mutation::every_listed_mutant_is_caught
