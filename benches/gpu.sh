#!/usr/bin/env bash
# gpu.sh FOLDER OUT [quick] - everything that only a CUDA device can show, in one go and without cargo or nvcc.
# FOLDER was made by gpu-pack.sh; OUT receives logs, raw JSON and record.md, which goes into benches/record/<device>.md.
#   tests       every operation against the f64 loops and the CPU, on the device alone
#   sanitizer   compute-sanitizer memcheck, racecheck, initcheck, synccheck over the same tests, where it is installed
#   device      ceilings, dense products, each kernel's time, share and measured / predicted; 100 repeats
#   peers       the same models in PyTorch, where it is installed
# cuBLASLt is found as the program itself finds it (CHTSL_CUDA_LIB, the loader's path); a failure of one part does not
# stop the next, and ends the script with status 1.
set -uo pipefail
folder=$(realpath "${1:?usage: gpu.sh FOLDER OUT [quick]}")
out=${2:?usage: gpu.sh FOLDER OUT [quick]}
quick=${3:-}
mkdir -p "$out" && out=$(realpath "$out")
failed=0
record=$out/record.md
python=${PYTHON:-python3}
export CHTSL_TEST_BACKENDS=cuda
if [ -z "${CHTSL_CUDA_LIB:-}" ]; then  # a pip installation of PyTorch brings the library
    found=$("$python" - <<'PY' 2>/dev/null
import glob, site
hits = [h for s in site.getsitepackages() for h in glob.glob(s + "/nvidia/*/lib/libcublasLt.so*")]
print(hits[0].rsplit("/", 1)[0] if hits else "")
PY
)
    [ -n "$found" ] && export CHTSL_CUDA_LIB=$found
fi

# Without a device every test would be skipped and pass: nothing to record.
"$folder/device" --probe || exit 1

say() { echo "$*" | tee -a "$record"; }
: > "$record"
say "# $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)"
say ""
say "$(date -u +%F), commit $(cat "$folder/commit" 2>/dev/null), driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)."
say "Command: \`benches/gpu.sh FOLDER OUT $quick\` (programs built by \`benches/gpu-pack.sh FOLDER\`)."
say ""

# step NAME COMMAND...: runs it with a log and notes how it ended.
step() {
    local name=$1; shift
    local start=$SECONDS
    if "$@" > "$out/$name.log" 2>&1; then
        say "- $name: passed, $((SECONDS - start)) s. \`$(basename "$1") ${*:2}\`"
    else
        failed=1
        say "- $name: FAILED with status $?, see $name.log"
        tail -5 "$out/$name.log" | sed 's/^/      /' >> "$record"
    fi
}

say "## Tests on the device"
say ""
for test in ops layer topology; do
    [ -x "$folder/$test" ] && step "test-$test" "$folder/$test" --test-threads 4
done
say ""
say "## Sanitizer"
say ""
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "sanitizer-$tool" timeout 240 compute-sanitizer --tool "$tool" --error-exitcode 9 "$folder/ops" \
            --test-threads 1 match_the_loop ${quick:+--skip derivative}
    done
else
    say "- not installed on this machine: unproven"
fi
say ""
say "## Kernels"
say ""
if "$folder/device" --json "$out/device.json" ${quick:+--quick} > "$out/device.md" 2> "$out/device.log"; then :; else
    failed=1
    say "ENDED EARLY: $(tail -1 "$out/device.log")"
fi
cat "$out/device.md" >> "$record"
say ""
say "## Peers"
say ""
if "$python" -c "import torch; assert torch.cuda.is_available()" 2> /dev/null; then
    say '```'
    models=${quick:+60m}
    for model in ${models:-60m 130m}; do
        for mode in dense masked chtsl-masked cola sltrain; do
            for compile in "" --compile; do
                batch=$([ $model = 60m ] && echo 128 || echo 64)
                line=$(timeout 120 "$python" "$folder/peers/torch_peer.py" --model $model --mode $mode --micro-batch $batch $compile 2> "$out/peer.err" | tail -1)
                [ -n "$line" ] || line="{\"model\": \"$model\", \"mode\": \"$mode\", \"compile\": \"$compile\", \"error\": \"$(tail -1 "$out/peer.err" | tr -d '"')\"}"
                echo "$line" >> "$out/peers.jsonl"
                say "$line"
            done
        done
    done
    say '```'
    step torch-kernels timeout 200 "$python" "$folder/peers/torch_kernels.py" --tokens 16384
    cat "$out/torch-kernels.log" >> "$record"
else
    say "- PyTorch with CUDA is not installed on this machine: unmeasured"
fi
exit $failed
