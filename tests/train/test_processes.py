"""Several processes train what one trains, and report an error once, in one line."""

import resource
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from arcpipe.batches import TrainingStream
from arcpipe.puzzleset import read_puzzle_set
from files import forget_hashes
from processes import ranks, running, running_together, together
from puzzles import BUCKETS
from training import (
    assert_close,
    assert_same_numbers,
    metrics,
    recorded,
    refused,
    settings,
    steps_of,
    train,
    train_arguments,
)


@pytest.fixture(scope="module")
def two(work: Path) -> tuple[Path, str]:
    """The fixture `whole`, but trained by two processes, and their output."""
    ended = together(train_arguments(work, work / "two"), work)
    return work / "two", "".join(done.stdout + done.stderr for done in ended)


def test_two_processes_do_as_one_and_say_things_once(two: tuple[Path, str], whole: Path) -> None:
    run, said = two
    assert_close(run, whole)
    assert steps_of(run) == steps_of(whole)
    assert said.count("2 process(es)") == said.count("process(es)") == 1
    assert said.count("step-00000012: step 12") == 1
    assert "warn" not in said.lower()
    assert "Traceback" not in said


def test_processes_of_the_command_do_as_one_and_stop_together(work: Path, whole: Path, run: Path) -> None:
    with running(train_arguments(work, run, "--processes", 2, "--steps", 10**6), work) as command:
        command.wait_until(lambda: recorded(run) > 12)
        command.send(signal.SIGTERM)
        done = command.finish(code=0)
    assert done.stderr.count("2 process(es)") == done.stderr.count(" --resume --steps 1000000\n") == 1
    last = steps_of(run)[-1]
    assert f"stopped at step {last} on a signal" in done.stderr
    for record, other in zip(metrics(run), metrics(whole), strict=False):
        assert record == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_a_launcher_that_is_killed_at_the_beginning_leaves_no_process(
    work: Path, run: Path, count: int
) -> None:
    """Its processes are still importing; if only one is left, it must not wait for the other."""
    with running(train_arguments(work, run, "--processes", 2, "--steps", 10**6), work) as command:
        launcher, ranks = psutil.Process(command.pid), list[psutil.Process]()

        def have_begun() -> bool:
            ranks[:] = [one for one in launcher.children() if "--multiprocessing-fork" in one.cmdline()]
            # More than asked for, if the second starts before the next look.
            return len(ranks) >= count

        command.wait_until(have_begun)
        command.send(signal.SIGKILL)
    _, left = psutil.wait_procs(ranks, timeout=60)
    # A zombie has ended: it waits for the first process of a container that reaps none.
    found = [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        process.kill()
    assert not found


def test_an_error_of_processes_is_told_once(work: Path, run: Path) -> None:
    broken = shutil.copytree(work / "data", run.with_name("broken"))
    (broken / "puzzles" / "state.json").unlink()
    with running(train_arguments(work, run, "--processes", 2, data=str(broken)), work) as command:
        done = command.finish(code=2)
    assert done.stderr.startswith(f"arcpipe: {broken}: damaged dataset folder (")
    assert done.stderr.count("\n") == 1
    said = refused(work, run, "--processes", 2, RANK="0", WORLD_SIZE="2")
    assert said.endswith("a launcher has started this process: leave one of them out")


def test_two_processes_share_their_rows(two: tuple[Path, str], work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for flags in (["--steps", 6], ["--resume"]):
        arguments = train_arguments(work, run, *settings("train", puzzle_memory="host"), *flags)
        together(arguments, work, TMPDIR=str(tmp_path))
    assert_same_numbers(two[0], run)
    assert list(tmp_path.iterdir()) == [run]


def test_four_processes_do_what_one_does(work: Path, tmp_path: Path) -> None:
    """Rows that learn alone at first, a batch in parts, evaluations, recomputed activations."""
    one, many = tmp_path / "one", tmp_path / "many"
    flags = [
        *settings("train", rows_only=0.5, accumulation=2, recompute="true"),
        *settings("eval", every=6),
        "--steps",
        6,
    ]
    train(work, one, *flags)
    together(train_arguments(work, many, *flags), work, 4)
    assert_close(many, one)
    shards = (many / "evaluations" / "step-00000006" / "shards").iterdir()
    assert sorted(shard.name[-13:] for shard in shards) == [f"rank{rank}.parquet" for rank in range(4)]


def test_a_killed_process_ends_the_other(work: Path, run: Path) -> None:
    with running_together(train_arguments(work, run, *settings("train", steps=2000)), work) as processes:
        processes[0].wait_until(lambda: recorded(run) > 0)
        processes[1].send(signal.SIGKILL)
        done = processes[0].finish()
    assert done.returncode == 2, done.stderr
    assert "\narcpipe: another process of this training has ended; " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_told_by_both_processes(work: Path, run: Path) -> None:
    """Only the main process writes."""
    flags = settings("train", steps=2000, checkpoint_every=20, log_every=4)
    with running_together(train_arguments(work, run, *flags), work) as processes:
        processes[0].wait_until(lambda: recorded(run) > 0)
        resource.prlimit(processes[0].pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        done = [process.finish() for process in processes]
    for one in done:
        assert one.returncode == 2, one.stderr
        assert "cannot be written (" in one.stderr
        assert "make room, then go on with --resume" in one.stderr
        assert "Traceback" not in one.stderr


def test_who_halts_does_not_depend_on_the_number_of_processes(work: Path, tmp_path: Path) -> None:
    """With weights that would halt at once, exploration decides, drawn for the global batch."""
    one, two, data = tmp_path / "one", tmp_path / "two", "sized/data"
    flags = [*settings("model", buckets=BUCKETS), *settings("train", halt_exploration=0.5), "--steps", "5"]
    train(work, one, "--max-minutes", 0, *flags, data=data)
    weights = one / "checkpoints" / "step-00000000" / "model.safetensors"
    eager = load_file(weights)
    eager["raw.halt_head.bias"].fill_(5.0)
    save_file(eager, weights)
    forget_hashes(weights.parent)
    shutil.copytree(one, two)
    train(work, one, "--resume", *flags, data=data)
    together(train_arguments(work, two, "--resume", *flags, data=data), work)
    assert all(0 < record["train/finished"] < 16 for record in metrics(one))
    assert_close(two, one)


def test_what_breaks_on_one_process_stops_both_in_the_same_step(work: Path, run: Path) -> None:
    """Only the second process has the puzzle whose embedding is too large."""
    train(work, run, "--max-minutes", 0)
    puzzles = read_puzzle_set(work / "data")

    def share(rank: int) -> set[int]:
        stream = TrainingStream(puzzles, batch_size=16, seed=0, placement=True, rank=rank, num_ranks=2)
        return set(stream[0].puzzle_ids.tolist())

    (broken, *_) = share(1) - share(0)
    path = run / "checkpoints" / "step-00000000" / "puzzles.safetensors"
    rows = load_file(path)["rows"]
    rows[broken] = 3e38
    save_file({"rows": rows}, path)
    forget_hashes(path.parent)
    for done in together(train_arguments(work, run, "--resume"), work, code=2):
        assert "arcpipe: step 1: the loss or its gradient is not finite" in done.stderr
        assert "(its tasks: " in done.stderr


@pytest.mark.parametrize(("batch_size", "data", "flags", "said"), [
    (15, "data", [], "train.batch_size 15 does not divide by 2 processes"),
    (
        12, "sized/data", settings("model", buckets=BUCKETS),
        "model.buckets: the samples of a batch, 3 of side 6, 3 of side 8, do not divide by 2 processes: "
        "choose another train.batch_size (for 2, 4, 8... processes a multiple of 64 does) or other "
        "buckets",
    ),
])  # fmt: skip
def test_a_batch_that_does_not_divide_by_the_processes_is_refused(
    work: Path, run: Path, batch_size: int, data: str, flags: list[str], said: str
) -> None:
    """Two processes are connected on a machine without a GPU, without a setting."""
    flags = [*flags, *settings("train", batch_size=batch_size)]
    alone = {"ACCELERATE_USE_CPU": "false", "CUDA_VISIBLE_DEVICES": ""}
    for done in together(train_arguments(work, run, *flags, data=data), work, code=2, **alone):
        assert done.stderr == f"arcpipe: {said}\n"
    assert not run.exists()


def test_a_dry_run_ends_its_connection(work: Path, tmp_path: Path) -> None:
    """A process that exits with its process group aborts now and then."""
    script = tmp_path / "dry.py"
    script.write_text(
        "import sys\nimport torch\nfrom arcpipe.commands.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\nassert not torch.distributed.is_initialized()\n"
    )
    words = ("train", work / "tiny.toml", "--data", work / "data", "--dry-run")
    with ExitStack() as stack:
        pair = [stack.enter_context(running(words, work, script=script, **rank)) for rank in ranks(2)]
        ended = [process.finish(code=0) for process in pair]
    assert [done.stdout.count("samples/s") for done in ended] == [1, 0]
