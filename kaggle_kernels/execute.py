"""Execute a notebook as Kaggle does, without arcpipe: python -P execute.py NOTEBOOK EXECUTED.

The notebook runs in the folder of EXECUTED, where it is written with its outputs even if a cell fails, which
exits with 1. SIGTERM ends the kernel and its processes.
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

_SET_FLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def execute(source: Path, target: Path) -> int:
    """Execute a notebook file and write it with its outputs; return 1 if a cell fails."""
    # A new network namespace starts with its loopback down; anywhere else it is up and not ours to change.
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP_AND_RUNNING))
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", shutdown_kernel="immediate",
        resources={"metadata": {"path": str(target.parent)}},
    )  # fmt: skip
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
