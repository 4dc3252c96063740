"""A stand-in for `python -m arcpipe` that needs no seconds to import torch: it is forked from a server.

As a script it is the server, with the address of its socket and that of the program to write as arguments.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from processes import running

# It passes on its arguments, folder, variables, largest file and streams, then every signal, and ends as the
# fork does.
_PROGRAM = """#!{python} -IS
import json, os, resource, signal, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
asked = [sys.argv[3:], os.getcwd(), dict(os.environ), resource.getrlimit(resource.RLIMIT_FSIZE)]
socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
code = int(server.recv(16))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def quick_python(folder: Path) -> Iterator[Path]:
    """Yield the program, in a folder, which takes `-m arcpipe` and arguments; outside Linux Python itself."""
    if sys.platform != "linux":
        yield Path(sys.executable)
        return
    program = folder / "python"
    with running([folder / "socket", program], folder, script=Path(__file__)) as server:
        server.wait_until(program.exists)
        yield program


def _serve(address: str, program: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    written = Path(f"{program}.tmp")
    written.write_text(_PROGRAM.format(python=sys.executable, address=address))
    written.chmod(0o755)
    written.rename(program)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(client)
            return
        client.close()


def _attend(client: socket.socket) -> None:
    """Fork the command of a client; signal it as the client is, and kill it with the client."""
    asked, streams, _, _ = socket.recv_fds(client, 2**20, 3)
    arguments, cwd, variables, largest_file = json.loads(asked)
    child = os.fork()
    if child == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(variables)
        resource.setrlimit(resource.RLIMIT_FSIZE, largest_file)
        sys.argv = ["arcpipe", *arguments]
        from arcpipe.commands.cli import main

        main()
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    while ended not in (ready := select.select([client, ended], [], [])[0]):
        assert client in ready
        os.kill(child, (client.recv(1) or bytes([signal.SIGKILL]))[0])
    _, status = os.waitpid(child, 0)
    # A client that was killed does not listen.
    with suppress(BrokenPipeError):
        client.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    _serve(*sys.argv[1:])
