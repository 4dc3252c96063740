"""`arcpipe`, or a script, in processes of its own, which can be waited for, signalled and killed.

They are forked from a server that has imported what takes seconds, so that a test can have many of them.
"""

import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from commands import environment

# The two of torch are what the first training of a process imports.
_PRELOADED = (
    "arcpipe.commands.cli", "arcpipe.train.trainer", "arcpipe.train.adapt", "arcpipe.infer.evaluate",
    "torch.distributed.tensor", "torch._dynamo",
)  # fmt: skip
# The launcher's flags without which it warns of its own defaults; --cpu would start one process only.
LAUNCH = (
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
    "--main_process_ip", "127.0.0.1", "--main_process_port", "0", "-m", "arcpipe",
)  # fmt: skip


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


def ranks(count: int) -> list[dict[str, str]]:
    """The variables by which so many processes find each other, as a launcher would set them."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    return [common | loopback() | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Running:
    """An `arcpipe` command, or a script, in a process of its own."""

    def __init__(
        self, arguments: Sequence[object], cwd: Path, variables: Mapping[str, str], script: Path | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="running-"))
        self.argv = [str(script or "arcpipe"), *map(str, arguments)]
        context = multiprocessing.get_context("forkserver")
        self.process = context.Process(
            target=_run, args=(self.argv, cwd, environment(variables), self.folder), daemon=False
        )
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment().items():
                patch.setenv(name, value)
            context.set_forkserver_preload(list(_PRELOADED))
            forkserver.ensure_running()
        self.process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def said(self) -> str:
        """What it has said on stderr so far."""
        return (self.folder / "err").read_text() if (self.folder / "err").exists() else ""

    def finish(self, timeout_s: float = 90, code: int | None = None) -> CompletedProcess[str]:
        """What it did, once it has ended, within this time; with the exit code, if one is given."""
        self.process.join(timeout_s)
        ended = self.process.exitcode
        assert ended is not None, f"it does not end: {self.said()}"
        assert code in (None, ended), self.said()
        return CompletedProcess(self.argv, ended, (self.folder / "out").read_text(), self.said())

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait while it runs until something is so."""
        ends = time.monotonic() + timeout_s
        while not is_so():
            assert self.process.is_alive(), self.said()
            assert time.monotonic() < ends, f"waited in vain: {self.said()}"
            time.sleep(0.002)


def _run(argv: list[str], cwd: Path, variables: Mapping[str, str], folder: Path) -> None:
    """In the process: be the command."""
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        with (folder / name).open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    # Not the server: what the command starts must be its own children.
    multiprocessing.set_start_method(None, force=True)
    import faulthandler

    faulthandler.enable()
    sys.argv = argv
    # Python's own handler, which a parent may have taken away.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    if argv[0] != "arcpipe":
        sys.path.insert(0, str(Path(argv[0]).parent))
        runpy.run_path(argv[0], run_name="__main__")
        return
    from arcpipe.commands.cli import main

    main()


@contextmanager
def running(
    arguments: Sequence[object], cwd: Path, *, script: Path | None = None, **variables: str
) -> Iterator[Running]:
    """A command, or a script, that runs; it ends with the block."""
    command = Running(arguments, cwd, variables, script)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.join()
        shutil.rmtree(command.folder)


@contextmanager
def running_together(
    arguments: Sequence[object], cwd: Path, count: int = 2, **variables: str
) -> Iterator[list[Running]]:
    """So many processes of one command, by rank; they end with the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(running(arguments, cwd, **found, **variables)) for found in ranks(count)]


def together(
    arguments: Sequence[object], cwd: Path, count: int = 2, code: int = 0, **variables: str
) -> list[CompletedProcess[str]]:
    """What so many processes of one command did, by rank; all of them with the exit code."""
    with running_together(arguments, cwd, count, **variables) as commands:
        return [command.finish(code=code) for command in commands]


def by_itself(arguments: Sequence[object], cwd: Path, timeout_s: float = 90) -> CompletedProcess[str]:
    """What a command did in a process of its own, which must exit with 0."""
    with running(arguments, cwd) as command:
        return command.finish(timeout_s, code=0)
