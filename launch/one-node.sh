#!/usr/bin/env bash
# Train on all GPUs of this machine, a process each, or on the CPU where there is none; begin, or go on with
# the run that is there:
#   launch/one-node.sh RECIPE DATA OUT [flags of arcpipe train]
# GPUS=4 launch/one-node.sh ... takes the first four, CUDA_VISIBLE_DEVICES=1 GPUS=1 the second alone. Without
# a GPU, GPUS is the number of processes on the CPU.
# Ctrl-C or SIGTERM saves a checkpoint; the same command goes on from the newest one.
set -eu

: "${3:?usage: launch/one-node.sh RECIPE DATA OUT [flags of arcpipe train]}"
recipe=$1 data=$2 out=$3
shift 3

# Where no environment is active, the one that make has left in the checkout.
command -v arcpipe >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH

resume=
if [ -e "$out/manifest.json" ]; then resume=--resume; fi

exec arcpipe train "$recipe" --data "$data" --out "$out" --processes "${GPUS:-auto}" \
    ${resume:+"$resume"} "$@"
