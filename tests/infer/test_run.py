"""Inference from folders to a folder: what it warns of, what it leaves, and where it computes."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from arcpipe.checkpoint import puzzle_keys, save_checkpoint
from arcpipe.codec import VOCABULARY
from arcpipe.errors import CheckpointError, OutputError
from arcpipe.infer.run import infer_to_folder
from arcpipe.infer.solve import InferSettings
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import make_manifest, read_manifest
from arcpipe.trm import TRM, TRMConfig
from puzzles import build, made_up_tasks, write_source

CONFIG = TRMConfig(
    hidden_size=16, num_heads=2, num_layers=1, outer_cycles=1, inner_cycles=1, max_steps=1, puzzle_size=4,
    puzzle_tokens=1,
)  # fmt: skip
SETTINGS = InferSettings()


@dataclass(frozen=True)
class Made:
    """A dataset folder of three tasks, one of two of them, and the manifest of the first."""

    all: Path
    part: Path
    puzzles: PuzzleSet
    manifest: dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("data")
    tasks = made_up_tasks(3)
    everything, part = (
        build(folder / name, write_source(folder, name + "s", chosen), canvas=5)
        for name, chosen in (("all", tasks), ("part", tasks[:2]))
    )
    return Made(everything, part, read_puzzle_set(everything), read_manifest(everything, "dataset"))


def save(path: Path, puzzles: PuzzleSet, weight: float = 0.1, **facts: Any) -> Path:
    """A checkpoint that knows the puzzles, its halt head filled with a weight; facts go to the manifest."""
    model = TRM(CONFIG, puzzles.num_tokens, VOCABULARY)
    torch.nn.init.constant_(model.halt_head.weight, weight)
    save_checkpoint(
        path, model=model, ema={}, rows=torch.ones(puzzles.num_puzzles, CONFIG.puzzle_size),
        puzzles=puzzle_keys(puzzles), canvas=puzzles.canvas, trainer={},
        manifest=make_manifest("checkpoint", step=1, recipe={"train": {"precision": "float32"}}, **facts),
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def trained_on_all(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = {"path": str(made.all), "fingerprint": made.manifest["fingerprint"]}
    return save(tmp_path_factory.mktemp("trained") / "checkpoint", made.puzzles, dataset=dataset)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_another_dataset_than_that_of_the_training_is_warned_of_and_answered(
    made: Made, trained_on_all: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert infer_to_folder(trained_on_all, made.part, tmp_path / "out", SETTINGS) > 0
    assert warnings(caplog) == [
        f"{trained_on_all}: trained on another dataset than {made.part}: "
        "its test outputs may have been trained on"
    ]


def test_the_dataset_of_the_training_is_not_warned_of(
    made: Made, trained_on_all: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    infer_to_folder(trained_on_all, made.all, tmp_path / "out", SETTINGS)
    assert not warnings(caplog)


def test_a_checkpoint_that_does_not_say_its_dataset_is_not_warned_of(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = save(tmp_path / "checkpoint", made.puzzles)
    infer_to_folder(checkpoint, made.part, tmp_path / "out", SETTINGS)
    assert not warnings(caplog)


def test_where_nothing_can_be_written_nothing_is_computed(made: Made, tmp_path: Path) -> None:
    # Computing would say that the answers are not finite.
    checkpoint = save(tmp_path / "checkpoint", made.puzzles, weight=3e38)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"file/out: cannot be written"):
        infer_to_folder(checkpoint, made.all, tmp_path / "file" / "out", SETTINGS)


def test_nothing_is_left_of_a_failed_inference(made: Made, tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "checkpoint", made.puzzles, weight=3e38)
    with pytest.raises(CheckpointError, match="its answers are not finite"):
        infer_to_folder(checkpoint, made.all, tmp_path / "out", SETTINGS)
    assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps the device of its first use for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is taken here")
@pytest.mark.usefixtures("fresh_accelerator")
def test_a_gpu_of_another_kind_than_cuda_is_not_taken(
    made: Made, trained_on_all: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    assert infer_to_folder(trained_on_all, made.all, tmp_path / "out", SETTINGS) > 0
