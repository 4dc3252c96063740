"""Starting `arcpipe` as several processes that find each other, as a launcher would."""

import socket
import subprocess
from pathlib import Path

from commands import arcpipe_command, environment


def loopback() -> dict[str, str]:
    """What makes processes talk within this machine only."""
    (name, *_) = (name for _, name in socket.if_nameindex() if name.startswith("lo"))
    return {"GLOO_SOCKET_IFNAME": name}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_together(arguments: list[object], cwd: Path, count: int = 2) -> list[subprocess.Popen[str]]:
    """So many processes of one `arcpipe` command, by rank; what they say on stderr can be read."""
    found = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        **loopback(),
    }
    return [
        subprocess.Popen(
            arcpipe_command(*arguments), cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment({**found, "RANK": str(rank), "LOCAL_RANK": str(rank)}),
        )
        for rank in range(count)
    ]  # fmt: skip
