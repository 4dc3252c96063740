"""Several processes train what one trains, and say once and plainly what stops them."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from arcpipe.batches import TrainingStream
from arcpipe.checkpoint import find_checkpoint
from arcpipe.predictions import read_predictions
from arcpipe.puzzleset import read_puzzle_set
from commands import arcpipe_command, environment, run_here
from training import metrics, steps_of, train, train_arguments

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def together(arguments: list[object], cwd: Path, **env: str) -> list[tuple[int, str]]:
    """Exit code and stderr of two processes that a launcher would start so."""
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", **loopback()}
    processes = [
        subprocess.Popen(
            arcpipe_command(*arguments), cwd=cwd, text=True, stderr=subprocess.PIPE,
            env=environment({**found, **env, "RANK": rank, "LOCAL_RANK": rank}),
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=90)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.fixture(scope="module")
def launched(work: Path) -> tuple[Path, str]:
    """The run of two processes, otherwise as the fixture `whole`, and what was said."""
    run = work / "launched"
    done = subprocess.run(
        [*LAUNCH, *map(str, train_arguments(work, run))], cwd=work,
        env=environment({**loopback(), "TMPDIR": str(work)}),  # the launcher leaves a folder of logs there
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run, done.stdout + done.stderr


def assert_close(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_two_processes_have_the_losses_of_one(launched: tuple[Path, str], whole: Path) -> None:
    run, said = launched
    assert "2 process(es)" in said
    assert_close(metrics(run), metrics(whole))
    assert steps_of(run) == steps_of(whole)


def test_two_processes_say_things_once_and_without_warnings(launched: tuple[Path, str]) -> None:
    _, said = launched
    assert said.count("process(es)") == 1
    assert said.count("step-00000012: step 12") == 1
    assert "warn" not in said.lower()
    assert "Traceback" not in said


def test_two_processes_and_one_predict_the_same(launched: tuple[Path, str], whole: Path, work: Path) -> None:
    found = []
    for name, run in (("two", launched[0]), ("one", whole)):
        out = work / f"predicted-by-{name}"
        done = run_here("infer", "--checkpoint", run, "--data", work / "data", "--out", out)
        assert done.returncode == 0, done.stderr
        found.append(list(read_predictions(out)))
    assert len(found[0]) == len(found[1]) > 4
    for of_two, of_one in zip(*found, strict=True):
        assert (of_two.task, of_two.test_index, of_two.augmentation) == (
            of_one.task,
            of_one.test_index,
            of_one.augmentation,
        )
        assert (of_two.grid is None) == (of_one.grid is None)
        assert of_two.grid is None or of_one.grid is None or of_two.grid.tolist() == of_one.grid.tolist()
        assert of_two.halt_probability == pytest.approx(of_one.halt_probability, rel=1e-4)


def test_one_process_goes_on_with_what_two_began(
    launched: tuple[Path, str], work: Path, whole: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(launched[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    train(work, run, "--resume")
    assert_close(metrics(run), metrics(whole))


def test_two_processes_move_the_rows_that_one_moves(launched: tuple[Path, str], whole: Path) -> None:
    """The global batch holds a puzzle several times, on both processes."""
    of_two, of_one = (
        load_file(find_checkpoint(run) / "puzzles.safetensors")["rows"] for run in (launched[0], whole)
    )
    assert of_one.any()
    # A sum of gradients that is nearly zero may have either sign.
    assert float((of_two - of_one).abs().gt(1e-6).float().mean()) < 0.01


def test_who_halts_does_not_depend_on_the_number_of_processes(work: Path, tmp_path: Path) -> None:
    """With weights that want to halt at once, exploration decides, by draws for the global batch."""
    one, two = tmp_path / "one", tmp_path / "two"
    flags = ("--set", "train.halt_exploration=0.5", "--steps", "5")
    train(work, one, "--max-minutes", 0, *flags)
    weights = one / "checkpoints" / "step-00000000" / "model.safetensors"
    eager = load_file(weights)
    eager["raw.halt_head.bias"].fill_(5.0)
    save_file(eager, weights)
    shutil.copytree(one, two)
    train(work, one, "--resume", *flags)
    for code, said in together(train_arguments(work, two, "--resume", *flags), work):
        assert code == 0, said
    assert all(0 < record["train/finished"] < 16 for record in metrics(one))
    assert_close(metrics(two), metrics(one))


def test_what_breaks_on_one_process_stops_both_in_the_same_step(work: Path, tmp_path: Path) -> None:
    """Only the second process meets the puzzle whose embedding is too large for its loss."""
    run = tmp_path / "run"
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
    for code, said in together(train_arguments(work, run, "--resume"), work):
        assert code == 2, said
        assert "arcpipe: step 1: the loss or its gradient is not finite" in said
        assert "(its tasks: " in said


def test_a_batch_that_does_not_divide_by_the_processes_is_refused(work: Path, tmp_path: Path) -> None:
    """Also that two processes find each other on a machine without a GPU, though nobody says so."""
    arguments = train_arguments(work, tmp_path / "run", "--set", "train.batch_size=15")
    alone = {"ACCELERATE_USE_CPU": "false", "CUDA_VISIBLE_DEVICES": ""}
    for code, said in together(arguments, work, **alone):
        assert code == 2, said
        assert said == "arcpipe: train.batch_size 15 does not divide by 2 processes\n"
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused_by_both_processes(work: Path, whole: Path) -> None:
    for code, said in together(train_arguments(work, whole), work):
        assert code == 2, said
        assert said.startswith(f"arcpipe: {whole} exists already: go on with --resume")
