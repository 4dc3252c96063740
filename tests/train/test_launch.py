"""The scripts in launch/ start trainings, stop them at a warning and go on with them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from commands import environment, run_here
from processes import wait_until
from sourcetree import ROOT
from training import LONG, recorded, steps_of

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))

# Stand-ins for SLURM's commands, which record their arguments.
SRUN = """#!{python}
import os, signal, subprocess, sys
assert sys.argv[1:3] == ["--kill-on-bad-exit=1", "--gpu-bind=none"]
numbers = map(str, range(int(os.environ["SLURM_NTASKS"])))
own = [os.environ | {{"SLURM_PROCID": number, "SLURM_LOCALID": number}} for number in numbers]
tasks = [subprocess.Popen(sys.argv[3:], env=variables) for variables in own]
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
if [ "$1" = show ]; then echo 127.0.0.1; echo unused; else echo "$@" >> "$ASKED"; fi
"""


def launch_environment(**extra: str) -> dict[str, str]:
    """What a user's shell has: the commands of this environment on the PATH, before them those of the
    folder FIRST_ON_PATH."""
    folders = (extra.get("FIRST_ON_PATH"), str(Path(sys.executable).parent), os.environ["PATH"])
    (loopback, *_) = (name for _, name in socket.if_nameindex() if name.startswith("lo"))
    path = os.pathsep.join(filter(None, folders))
    return environment({"PATH": path, "GLOO_SOCKET_IFNAME": loopback, **extra})


def launch(script: str, *arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAUNCH / script, *map(str, arguments)], cwd=cwd, env=launch_environment(**env), text=True,
        capture_output=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound_and_says_without_arguments_how_it_is_used(script: Path, tmp_path: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
    done = launch(script.name, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("usage: ")
    assert f"launch/{script.name} " in line


def test_what_is_in_the_way_of_a_script_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        nodes = {"NODES": "2", "GPUS": "1", "HEAD": "127.0.0.1", "PORT": port}
        done = launch("several-nodes.sh", 0, "recipe", "data", "run", cwd=tmp_path, **nodes)
    assert (done.returncode, done.stderr) == (
        2, f"launch/several-nodes.sh: port {port} is in use here: set PORT to a free one, on all machines\n"
    )  # fmt: skip
    for script, arguments, said in (
        ("slurm.sbatch", (), "start this script with sbatch, or take launch/one-node.sh"),
        ("several-nodes.sh", (0,), "set NODES to the number of machines"),
    ):
        done = launch(script, *arguments, "recipe", "data", "run", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"launch/{script}: ")
        assert done.stderr.endswith(f"{said}\n")


def test_one_node_goes_on_with_what_is_there(work: Path, tmp_path: Path) -> None:
    """With the environment that make has left."""
    run = tmp_path / "run with a space"
    for folder, name in (("launch", "one-node.sh"), (".venv/bin", "arcpipe")):
        (tmp_path / folder).mkdir(parents=True)
        script = (LAUNCH / name).read_text() if folder == "launch" else "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"
        (tmp_path / folder / name).write_text(script)
        (tmp_path / folder / name).chmod(0o755)
    given = [work / "tiny.toml", work / "data", run, "--steps"]
    first = ["train", work / "tiny.toml", "--data", work / "data", "--out", run, "--processes"]
    for steps, processes, resume, env in ((3, "auto", [], {}), (5, "1", ["--resume"], {"GPUS": "1"})):
        done = subprocess.run(
            [tmp_path / "launch" / "one-node.sh", *map(str, [*given, steps])], cwd="/",
            env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        words = done.stdout.splitlines()
        assert words == [str(word) for word in (*first, processes, *resume, "--steps", steps)]
        run_here(*(word if word != "auto" else "1" for word in words), code=0)
        assert steps_of(run)[-1] == steps


@contextmanager
def started(script: str, *arguments: object, cwd: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A running script; it and its children are ended with the block."""
    with subprocess.Popen(
        [LAUNCH / script, *map(str, arguments)], cwd=cwd, env=launch_environment(**env), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def test_each_of_several_nodes_starts_its_share_and_ctrl_c_saves(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    port = str(20000 + os.getpid() % 20000)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                started(
                    "several-nodes.sh", number, work / "tiny.toml", work / "data", run, *LONG,
                    cwd=work, NODES="2", GPUS="1", HEAD="127.0.0.1", PORT=port, TMPDIR=str(tmp_path),
                )
            )
            for number in (0, 1)
        ]  # fmt: skip
        wait_until(lambda: recorded(run) > 0, 120, lambda: nodes[0].poll() is None)
        launchers = [psutil.Process(node.pid) for node in nodes]
        # Ctrl-C reaches launchers and processes, which have sessions of their own.
        for process in [*launchers, *(rank for launcher in launchers for rank in launcher.children())]:
            stack.callback(send, process, signal.SIGKILL)
            send(process, signal.SIGINT)
        said = [node.communicate(timeout=60)[1] for node in nodes]
    assert "2 process(es)" in said[0]
    (saved,) = steps_of(run)
    assert saved >= recorded(run) > 0
    assert f"stopped at step {saved} on a signal" in said[0]
    assert f"--out {run} --resume" in said[0]


def test_a_slurm_job_saves_when_warned_is_requeued_and_goes_on(work: Path, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    asked, run = commands / "asked", tmp_path / "run"
    arguments = (work / "tiny.toml", work / "data", run, "--set", "train.steps=1000000")
    slurm = {
        "FIRST_ON_PATH": str(commands), "ASKED": str(asked), "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NTASKS": "2",
    }  # fmt: skip

    with started("slurm.sbatch", *arguments, cwd=work, **slurm) as job:
        wait_until(lambda: recorded(run) > 0, 120, lambda: job.poll() is None)
        job.send_signal(signal.SIGUSR1)
        out, err = job.communicate(timeout=60)
    assert job.returncode == 0, err
    assert "saved; back into the queue" in out
    assert asked.read_text() == "requeue 77\n"
    saved = steps_of(run)[-1]
    assert saved >= 1

    (commands / "srun").write_text('#!/bin/sh\necho "$@" > "$ASKED"\n')
    with started("slurm.sbatch", *arguments, cwd=work, **slurm) as job:
        _, err = job.communicate(timeout=60)
    assert job.returncode == 0, err
    assert f" --out {run} --resume --set " in asked.read_text()
    assert "requeue" not in asked.read_text(), "a training that is done is not requeued"
