#!/usr/bin/env bash
# Makes .transformers, a Python with the requirements of this folder for CPUs. The index has torch for
# Linux x86_64 with CUDA only: 0.54 GB itself, and 2 GB of libraries that a CPU never enters but the
# loader wants to see. Small stand-ins take their place; functions are looked up when first called.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/transformers venv=.transformers
marker=$(cksum <"$here/requirements.txt")$(cksum <"$here/install.sh")
[[ -f $venv/installed && $(<"$venv/installed") == "$marker" ]] && exit
rm -rf "$venv"
python3 -m venv "$venv"
pip() { "$venv/bin/pip" --quiet --disable-pip-version-check "$@"; }
if [[ $(uname -sm) != "Linux x86_64" ]]; then
  pip install -r "$here/requirements.txt"
else
  pip install -r <(grep -v '^torch==' "$here/requirements.txt") filelock jinja2 networkx sympy typing-extensions \
    'nvidia-cuda-cupti==13.2.*' 'nvidia-cuda-runtime==13.2.*'
  pip install --no-deps "$(grep '^torch==' "$here/requirements.txt")"
  packages=$(echo "$venv"/lib/python3*/site-packages)
  stage=$(mktemp -d)
  # Its one variable is wanted at once.
  echo 'int nvshmem_selected_device_transport[64];' >"$stage/nvshmem.c"
  echo 'NVSHMEM { global: *; };' >"$stage/nvshmem.map"
  for library in libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcufile.so.0 \
    libcusparse.so.12 libcusparseLt.so.0 libnccl.so.2 libnvrtc.so.13; do
    cc -shared -x c /dev/null -Wl,-soname,$library -o "$packages/nvidia/cu13/lib/$library"
  done
  cc -shared -fPIC "$stage/nvshmem.c" -Wl,--version-script="$stage/nvshmem.map" \
    -Wl,-soname,libnvshmem_host.so.3 -o "$packages/nvidia/cu13/lib/libnvshmem_host.so.3"
  rm -r "$stage"
  echo 'import os, sys; sys.setdlopenflags(os.RTLD_LAZY)' >"$packages/lazy.pth"
fi
"$venv/bin/python" -c 'import torch, transformers'
echo "$marker" >"$venv/installed"
