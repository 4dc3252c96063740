#!/usr/bin/env bash
# Train on several machines with the same number of GPUs. Run this on each of them, with NUMBER 0, 1, ...:
#   NODES=2 GPUS=8 HEAD=10.0.0.1 launch/several-nodes.sh NUMBER RECIPE DATA OUT [flags of arcpipe train]
# HEAD is the address of machine 0. PORT is a free port there that the others can reach (default 29500).
# All machines must see the same DATA and OUT.
# Ctrl-C or SIGTERM saves a checkpoint. Accelerate leaves 30 seconds for that, then exits with 1 and a
# traceback of its own. The same commands resume from the newest checkpoint.
set -eu

refuse() {
    echo "$1" >&2
    exit 2
}
[ "${4:-}" ] || refuse "usage: NODES=N GPUS=N HEAD=ADDRESS launch/several-nodes.sh NUMBER RECIPE DATA OUT [flags]"
[ "${NODES:-}" ] || refuse "launch/several-nodes.sh: set NODES to the number of machines"
[ "${GPUS:-}" ] || refuse "launch/several-nodes.sh: set GPUS to the number of GPUs of each machine"
[ "${HEAD:-}" ] || refuse "launch/several-nodes.sh: set HEAD to the address of machine 0"
number=$1 recipe=$2 data=$3 out=$4 port=${PORT:-29500}
shift 4

# If no environment is active, take the one that make left in the checkout.
command -v arcpipe >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH

listen="import socket; socket.create_server(('', $port)).close()"
if [ "$number" = 0 ] && ! python3 -c "$listen" 2>/dev/null; then
    refuse "launch/several-nodes.sh: port $port is in use here: set PORT to a free one, on all machines"
fi

resume=
if [ -e "$out/manifest.json" ]; then resume=--resume; fi

# The recipe decides the precision and what is compiled, not Accelerate.
exec accelerate launch --multi_gpu --num_processes "$((NODES * GPUS))" --num_machines "$NODES" \
    --machine_rank "$number" --main_process_ip "$HEAD" --main_process_port "$port" \
    --mixed_precision no --dynamo_backend no \
    -m arcpipe train "$recipe" --data "$data" --out "$out" ${resume:+"$resume"} "$@"
