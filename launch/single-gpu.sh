#!/usr/bin/env bash
# Train on one GPU, or on the CPU where there is none:
#   launch/single-gpu.sh RECIPE DATA OUT [flags of arcpipe train]
# Of several GPUs, name the one to take: CUDA_VISIBLE_DEVICES=1 launch/single-gpu.sh ...
# Ctrl-C or SIGTERM saves a checkpoint; the same command goes on from the newest one.
set -eu

: "${3:?usage: launch/single-gpu.sh RECIPE DATA OUT [flags of arcpipe train]}"
recipe=$1 data=$2 out=$3
shift 3

# Where no environment is active, the one that make has left in the checkout.
command -v arcpipe >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH

resume=
if [ -e "$out/manifest.json" ]; then resume=--resume; fi

exec arcpipe train "$recipe" --data "$data" --out "$out" ${resume:+"$resume"} "$@"
