"""Repeated signals, signals to some processes, dead launchers and closed terminals: the run is saved."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import arcpipe
from commands import arcpipe_command, environment, run_here
from processes import LAUNCH, by_itself, loopback, running, running_together, wait_until
from screens import shown
from training import assert_same_run, metrics, recorded, settings, steps_of, train, train_arguments

LONG = settings("train", steps=10**6, checkpoint_every=10**6, checkpoint_minutes=1000.0)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
DRAWS_OFTEN = """
from arcpipe.commands.cli import main
from arcpipe.train import metrics
metrics.DRAW_EVERY_S = 0.2
main()
"""
# Size of the terminal, in rows and columns.
SIZE = (24, 80)
TIMES = int(os.environ.get("REPETITIONS", "3"))


@pytest.mark.parametrize("count", [1, 2])
def test_signals_that_come_again_leave_a_checkpoint(work: Path, tmp_path: Path, count: int) -> None:
    """The second one comes at any moment of a step, a save or the end; the third at once."""
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    for number in range(TIMES):
        resume = ["--resume"] if number else []
        first, second = SIGNALS[number % 3], SIGNALS[(number + 1) // 2 % 3]
        with running_together(train_arguments(work, run, *LONG, *resume), work, count) as processes:
            before = recorded(run)
            processes[0].wait_until(lambda before=before: recorded(run) > before)  # type: ignore[misc]
            for process in processes:
                process.send(first)
            time.sleep(0.003 * number)
            for process in processes:
                with suppress(ProcessLookupError):
                    process.send(second)
                    process.send(second)
            ended = [process.finish() for process in processes]
        saved = steps_of(run)[-1]
        assert saved >= recorded(run) > before
        # A signal after the handlers are removed may kill a process that has nothing left to do.
        assert all(done.returncode in (0, -second) for done in ended), [done.stderr for done in ended]
        assert f"stopped at step {saved} on a signal" in ended[0].stderr
    if count == 1:
        said = f"train {run} --data {work / 'data'} --out {run} --resume"
        assert ended[0].stderr.endswith(f" {said}\n")
        run_here(*said.split(), "--steps", saved + 1, code=0)
        train(work, uninterrupted, *LONG, "--steps", saved + 1)
        assert_same_run(run, uninterrupted)


@pytest.mark.parametrize(("number", "to"), [(signal.SIGINT, "all"), (signal.SIGKILL, "launcher")])
def test_a_launcher_that_ends_leaves_a_checkpoint(work: Path, tmp_path: Path, number: int, to: str) -> None:
    """Ctrl-C reaches its processes too; if it is killed, they are orphans."""
    run, ranks = tmp_path / "run", list[psutil.Process]()
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [*LAUNCH, *map(str, train_arguments(work, run, *LONG))], cwd=work, text=True,
            env=environment({**loopback(), "TMPDIR": str(tmp_path)}), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=said,
        ) as launcher,
    ):  # fmt: skip
        try:
            wait_until(lambda: recorded(run) > 0)
            ranks = psutil.Process(launcher.pid).children()
            for pid in (launcher.pid, *(rank.pid for rank in ranks if to == "all")):
                os.kill(pid, number)
            launcher.wait(60)
            wait_until(lambda: not any(rank.is_running() for rank in ranks))
        finally:
            launcher.kill()
            # The processes have sessions of their own.
            for rank in ranks:
                with suppress(psutil.NoSuchProcess):
                    rank.kill()
    (saved,) = steps_of(run)
    assert saved >= recorded(run) > 0
    text = (tmp_path / "said").read_text()
    assert f"stopped at step {saved} on a signal" in text
    assert f"--out {run} --resume" in text
    assert ("the launcher of this process has ended" in text) == (number == signal.SIGKILL)


RANK = """
import os, time
from arcpipe.processes import stop_on_signals
launcher = os.getppid()
print("started", flush=True)
while os.getppid() == launcher:
    time.sleep(0.01)
with stop_on_signals() as should_stop:
    print(should_stop())
"""
LAUNCHER = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_a_launcher_that_ends_before_the_training_begins_is_noticed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, RANK], env=environment({"RANK": "0"}), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as launcher:  # fmt: skip
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "started\n"
        launcher.kill()
        assert launcher.stdout.read() == "True\n"


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, arcpipe.ArcpipeError)]
)
def test_a_signal_is_raised_in_python_once_a_checkpoint_is_saved(
    work: Path, run: Path, number: int, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next cells of a notebook do not go on with a model that is half trained."""

    def send() -> None:
        wait_until(lambda: recorded(run) > 0)
        os.kill(os.getpid(), number)

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(send)
        with pytest.raises(kind) as ended:
            arcpipe.train(work / "tiny.toml", work / "data", run, set=LONG[1::2])
    (saved,) = steps_of(run)
    assert f"{run}: ended by a signal at step {saved}," in str(ended.value)


def test_a_training_in_a_thread_takes_no_signals(
    work: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(arcpipe.train, work / "tiny.toml", work / "data", run, steps=1).result()
    assert steps_of(run) == [1]


def test_a_signal_to_one_process_ends_an_evaluation_of_all(work: Path, run: Path) -> None:
    """The evaluation would take an hour; the other process has most of its share left."""
    evaluation = settings("eval", every=2, max_steps=10_000, max_minutes=60.0, batch_size=1)
    with running_together(train_arguments(work, run, *LONG, *evaluation), work) as processes:
        processes[0].wait_until((run / "evaluations" / "step-00000002").exists)
        time.sleep(1)
        processes[1].send(signal.SIGTERM)
        began = time.monotonic()
        ended = [process.finish() for process in processes]
    assert time.monotonic() - began < 20
    assert [done.returncode for done in ended] == [0, 0], ended[0].stderr
    assert steps_of(run) == [2]


def on_terminal(work: Path, run: Path) -> tuple[int, int, list[bytes]]:
    """Process id, terminal and output of a training on a terminal that has drawn its bar."""
    pid, terminal = pty.fork()
    if not pid:
        command = arcpipe_command(*train_arguments(work, run, *LONG))
        command[1:3] = ["-c", DRAWS_OFTEN]
        os.chdir(work)
        # nohup ignores the signal, which the child would inherit.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execve(command[0], command, environment({"TERM": "xterm"}))
    termios.tcsetwinsize(terminal, SIZE)
    # Unread output would block it.
    os.set_blocking(terminal, False)
    said = [b""]

    def has_drawn() -> bool:
        with suppress(BlockingIOError):
            said.append(os.read(terminal, 100_000))
        return b"answer at step" in b"".join(said)

    wait_until(has_drawn)
    # The rest of the drawing.
    time.sleep(0.05)
    return pid, terminal, said


def test_ctrl_c_saves_and_says_what_a_second_one_does(work: Path, run: Path) -> None:
    pid, terminal, said = on_terminal(work, run)
    os.write(terminal, b"\x03")

    def ended() -> bool:
        with suppress(OSError):
            said.append(os.read(terminal, 100_000))
        return os.waitpid(pid, os.WNOHANG) != (0, 0)

    wait_until(ended)
    lines = shown(b"".join(said).decode(), *SIZE)
    os.close(terminal)
    assert steps_of(run)[-1] >= recorded(run) > 0
    told = next(row for row, line in enumerate(lines) if "Ctrl-C again ends at once and loses that" in line)
    (drawn,) = (row for row, line in enumerate(lines) if "answer at step" in line)
    (last_bar,) = (row for row, line in enumerate(lines) if line.startswith("train: ") and row > told)
    assert told < last_bar == drawn - 3, "it was erased below what is said, and stays below the last bar"


def test_a_terminal_that_is_closed_leaves_a_checkpoint(work: Path, run: Path) -> None:
    pid, terminal, _ = on_terminal(work, run)
    os.close(terminal)
    wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0))
    assert steps_of(run)[-1] >= recorded(run) > 0


def test_the_second_of_two_trainings_says_who_has_the_run(work: Path, run: Path) -> None:
    """With one and with two processes; the first training is undisturbed."""
    with running(train_arguments(work, run, *LONG), work) as first:
        first.wait_until(lambda: recorded(run) > 0)
        for count in (1, 2):
            with running_together(train_arguments(work, run, *LONG, "--resume"), work, count) as others:
                for done in [other.finish() for other in others]:
                    assert done.returncode == 2, done.stderr
                    assert f"arcpipe: {run}: process {first.pid} on " in done.stderr
                    assert "is writing to it: wait for its end, stop it, or choose another" in done.stderr
        first.send(signal.SIGTERM)
        assert first.finish().returncode == 0
    records = metrics(run)
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    assert "is writing to it" not in (run / "train.log").read_text()


def test_a_killed_training_holds_nothing(work: Path, run: Path) -> None:
    with running(train_arguments(work, run, *LONG), work) as first:
        first.wait_until(lambda: recorded(run) > 0)
        first.send(signal.SIGKILL)
        first.finish()
    done = by_itself(train_arguments(work, run, "--resume", *LONG, "--steps", 2), work)
    assert f"taken over from process {first.pid} on " in done.stderr


def test_one_of_two_that_make_a_run_makes_it(work: Path, tmp_path: Path) -> None:
    for number in range(TIMES):
        run = tmp_path / f"run{number}"
        arguments = train_arguments(work, run, "--steps", 1)
        with running(arguments, work) as one, running(arguments, work) as other:
            ended = [process.finish() for process in (one, other)]
        assert sorted(done.returncode for done in ended) == [0, 2], [done.stderr for done in ended]
        (loser,) = [done.stderr for done in ended if done.returncode]
        assert f"arcpipe: {run} exists already: " in loser or "is writing to it" in loser
        assert steps_of(run) == [1]
