#!/bin/sh
# Takes out of /venv what an image for a CPU never runs, when it is built: `strip_packages.sh [PACKAGE...]`. The packages
# that it is given go, too.
set -eu
# The tokenizer's package wants the first for downloads from a hub, which never happen here; ONNX Runtime the second for
# scripts that prepare models.
/venv/bin/pip uninstall --yes --quiet \
    huggingface-hub hf-xet httpx httpcore h11 anyio fsspec tqdm click filelock \
    sympy mpmath flatbuffers \
    "$@" setuptools pip
cd /venv/lib/python3*/site-packages/onnxruntime/capi
# The library for C programs, and devices that there aren't.
rm libonnxruntime.so.* libopenvino_auto_plugin.so libopenvino_hetero_plugin.so \
    libopenvino_intel_gpu_plugin.so libopenvino_intel_npu_plugin.so
# A wheel can hold no links, so it has each library once for each of its names.
for library in libopenvino.so libopenvino_c.so libopenvino_onnx_frontend.so libtbb.so; do
    for copy in "$library".*; do
        if cmp -s "$library" "$copy"; then
            ln -sf "$library" "$copy"
        fi
    done
done
