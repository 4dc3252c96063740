"""Execute a notebook as Kaggle does; a script of its own, because it runs where arcpipe is not installed.

python -P execute.py NOTEBOOK EXECUTED: the folder of EXECUTED is where the notebook runs. Exit code 1 if a
cell fails; what was printed until then is in EXECUTED either way. SIGTERM ends the kernel with all of it.
"""

import fcntl
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def execute(source: Path, target: Path) -> int:
    """Execute a notebook, and write it with its outputs."""
    # The loopback is off in a new network namespace; where that is not ours, it is on.
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _UP_AND_RUNNING))
    notebook = nbformat.read(source, as_version=4)
    resources = {"metadata": {"path": str(target.parent)}}
    # At the end, and when the client is told to end, the kernel is killed with its group of processes.
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources=resources, shutdown_kernel="immediate"
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        nbformat.write(notebook, target)
    return 0


if __name__ == "__main__":
    sys.exit(execute(Path(sys.argv[1]), Path(sys.argv[2])))
