#!/usr/bin/env bash
# Train on one machine: a process for each GPU, or on the CPU if there is none. A run that is in OUT is resumed:
#   launch/one-node.sh RECIPE DATA OUT [flags of arcpipe train]
# GPUS=4 takes the first four GPUs, CUDA_VISIBLE_DEVICES=1 GPUS=1 the second alone. Without a GPU, GPUS is the
# number of processes on the CPU.
# Ctrl-C or SIGTERM saves a checkpoint; the same command resumes from the newest one.
set -eu

if [ -z "${3:-}" ]; then
    echo "usage: launch/one-node.sh RECIPE DATA OUT [flags of arcpipe train]" >&2
    exit 2
fi
recipe=$1 data=$2 out=$3
shift 3

# If no environment is active, take the one that make left in the checkout.
command -v arcpipe >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH

resume=
if [ -e "$out/manifest.json" ]; then resume=--resume; fi

exec arcpipe train "$recipe" --data "$data" --out "$out" --processes "${GPUS:-auto}" \
    ${resume:+"$resume"} "$@"
