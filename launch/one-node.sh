#!/usr/bin/env bash
# Train on all GPUs of this machine, a process each:
#   launch/one-node.sh RECIPE DATA OUT [flags of arcpipe train]
# GPUS=4 launch/one-node.sh ... takes the first four. Without a GPU, GPUS is the number of processes on
# the CPU.
# Ctrl-C or SIGTERM saves a checkpoint, for which Accelerate leaves 30 seconds before it exits with 1 and
# a traceback of its own; the same command goes on from the newest one.
set -eu

: "${3:?usage: launch/one-node.sh RECIPE DATA OUT [flags of arcpipe train]}"
recipe=$1 data=$2 out=$3
shift 3

# Where no environment is active, the one that make has left in the checkout.
command -v arcpipe >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH

gpus=${GPUS:-$(python3 -c 'import torch; print(torch.cuda.device_count())')}
if [ "$gpus" -lt 2 ]; then
    echo "launch/one-node.sh: found $gpus GPUs, needs two or more: take launch/single-gpu.sh or set GPUS" >&2
    exit 2
fi

resume=
if [ -e "$out/manifest.json" ]; then resume=--resume; fi

# Port 0 takes a free one, so that several trainings can share the machine. The recipe decides the
# precision and what is compiled, not Accelerate.
exec accelerate launch --multi_gpu --num_processes "$gpus" --num_machines 1 \
    --main_process_ip 127.0.0.1 --main_process_port 0 --mixed_precision no --dynamo_backend no \
    -m arcpipe train "$recipe" --data "$data" --out "$out" ${resume:+"$resume"} "$@"
