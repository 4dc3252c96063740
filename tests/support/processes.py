"""Run `arcpipe` or a script in processes that can be waited for, signaled and killed.

They are forked from a server with all slow imports done, so that tests can start many of them.
"""

import gc
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

# All but those of arcpipe are imported late: by the first training of a process, or by this module.
_PRELOADED = (
    "arcpipe.commands.cli", "arcpipe.train.trainer", "arcpipe.train.adapt", "arcpipe.infer.evaluate",
    "torch.distributed.tensor", "torch._dynamo", "torch.profiler", "pandas", "filelock", "pytest",
)  # fmt: skip


def loopback() -> dict[str, str]:
    """Return variables that make processes talk over the loopback interface."""
    (name, *_) = (name for _, name in socket.if_nameindex() if name.startswith("lo"))
    return {"GLOO_SOCKET_IFNAME": name}


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ranks(count: int) -> list[dict[str, str]]:
    """Return the variables of a launcher for `count` processes."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    return [common | loopback() | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Running:
    """An `arcpipe` command or a script in a process."""

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
        """Return its process number."""
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def said(self) -> str:
        """Return its stderr so far."""
        return (self.folder / "err").read_text() if (self.folder / "err").exists() else ""

    def finish(self, timeout_s: float = 90, code: int | None = None) -> CompletedProcess[str]:
        """Wait for its end and return its output; assert the exit code, if one is given."""
        self.process.join(timeout_s)
        ended = self.process.exitcode
        assert ended is not None, f"it does not end: {self.said()}"
        assert code in (None, ended), self.said()
        return CompletedProcess(self.argv, ended, (self.folder / "out").read_text(), self.said())

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until a condition holds; fail if the process ends first."""
        wait_until(is_so, timeout_s, self.process.is_alive, self.said)


def wait_until(
    is_so: Callable[[], bool],
    timeout_s: float = 60,
    is_alive: Callable[[], bool] = lambda: True,
    said: Callable[[], str] = lambda: "",
    every_s: float = 0.002,
) -> None:
    """Wait until a condition holds; fail if the process ends first, or with what it said."""
    ends = time.monotonic() + timeout_s
    while not is_so():
        assert is_alive(), said()
        assert time.monotonic() < ends, f"waited in vain: {said()}"
        time.sleep(every_s)


def _run(argv: list[str], cwd: Path, variables: Mapping[str, str], folder: Path) -> None:
    """Run the command in the child process."""
    # Each training ends with a collection of garbage, which would go through all that is imported.
    gc.freeze()
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        with (folder / name).open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    # Not the fork server: the command must start children of its own.
    multiprocessing.set_start_method(None, force=True)
    import faulthandler

    faulthandler.enable()
    sys.argv = argv
    # Restore Python's own handler, which a parent may have replaced.
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
    """Run a command or a script; kill it at the end of the block."""
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
    """Run `count` processes of a command, by rank; kill them at the end of the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(running(arguments, cwd, **found, **variables)) for found in ranks(count)]


def together(
    arguments: Sequence[object], cwd: Path, count: int = 2, code: int = 0, **variables: str
) -> list[CompletedProcess[str]]:
    """Run `count` processes of a command, assert their exit code, and return their output by rank."""
    with running_together(arguments, cwd, count, **variables) as commands:
        return [command.finish(code=code) for command in commands]


def by_itself(
    arguments: Sequence[object], cwd: Path, timeout_s: float = 90, script: Path | None = None
) -> CompletedProcess[str]:
    """Run a command or a script in a process, assert exit code 0, and return its output."""
    with running(arguments, cwd, script=script) as command:
        return command.finish(timeout_s, code=0)
