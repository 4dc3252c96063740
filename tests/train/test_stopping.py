"""Repeated signals, signals to some processes, dead launchers and closed terminals: the run is saved."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import arcpipe
from commands import environment, run_here
from processes import Running, by_itself, running, running_together, wait_until
from screens import shown
from training import LONG, assert_same_run, metrics, recorded, settings, steps_of, train, train_arguments

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
ON_TERMINAL = """
import fcntl, os, signal, sys, termios
os.setsid()
terminal = os.open(sys.argv.pop(1), os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
for stream in (0, 1, 2):
    os.dup2(terminal, stream)
os.close(terminal)
# nohup ignores the signal, which the child would inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
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


def test_a_launcher_that_is_killed_leaves_a_checkpoint(work: Path, run: Path) -> None:
    """Its process is an orphan."""
    script = run.with_name("launcher.py")
    script.write_text(
        "import os, signal\nfrom arcpipe.commands.cli import main\nsignal.pause() if os.fork() else main()\n"
    )
    arguments = train_arguments(work, run, *LONG, "--max-minutes", 2)
    with running(arguments, work, script=script, ACCELERATE_DYNAMO_BACKEND="no") as launcher:
        launcher.wait_until(lambda: recorded(run) > 0)
        launcher.send(signal.SIGKILL)
        wait_until(lambda: f"--out {run} --resume" in launcher.said())
        said = launcher.said()
    (saved,) = steps_of(run)
    assert saved >= recorded(run) > 0
    assert "the launcher of this process has ended" in said
    assert f"stopped at step {saved} on a signal" in said


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


@contextmanager
def on_terminal(work: Path, run: Path) -> Iterator[tuple[Running, int, list[bytes]]]:
    """A training on a terminal that has drawn its bar, the terminal, and its output so far."""
    script = run.with_name("on_terminal.py")
    script.write_text(ON_TERMINAL)
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(terminal, SIZE)
    # Unread output would block it.
    os.set_blocking(terminal, False)
    said = [b""]

    def has_drawn() -> bool:
        with suppress(BlockingIOError):
            said.append(os.read(terminal, 100_000))
        return b"answer at step" in b"".join(said)

    arguments = [os.ttyname(other_end), *train_arguments(work, run, *LONG)]
    with running(arguments, work, script=script, TERM="xterm") as process:
        process.wait_until(has_drawn)
        os.close(other_end)
        # The rest of the drawing.
        time.sleep(0.05)
        yield process, terminal, said


def test_ctrl_c_saves_and_says_what_a_second_one_does(work: Path, run: Path) -> None:
    with on_terminal(work, run) as (process, terminal, said):
        os.write(terminal, b"\x03")

        def ended() -> bool:
            alive = process.process.is_alive()
            with suppress(OSError):
                said.append(os.read(terminal, 100_000))
            return not alive

        wait_until(ended)
    lines = shown(b"".join(said).decode(), *SIZE)
    os.close(terminal)
    assert steps_of(run)[-1] >= recorded(run) > 0
    told = next(row for row, line in enumerate(lines) if "Ctrl-C again ends at once and loses that" in line)
    (drawn,) = (row for row, line in enumerate(lines) if "answer at step" in line)
    (last_bar,) = (row for row, line in enumerate(lines) if line.startswith("train: ") and row > told)
    assert told < last_bar == drawn - 3, "it was erased below what is said, and stays below the last bar"


def test_a_terminal_that_is_closed_leaves_a_checkpoint(work: Path, run: Path) -> None:
    with on_terminal(work, run) as (process, terminal, _):
        os.close(terminal)
        process.finish()
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
