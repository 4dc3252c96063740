"""`arcpipe bench train`: what its rows are of; not how fast this machine is."""

import json
import os
import subprocess
import sys

import pytest
import torch

from arcpipe.errors import ArcpipeError
from arcpipe.train.bench import NO_TIME, TrainBenchSettings, bench_train
from arcpipe.train.bench_forms import KINDS, PLAIN, SHAPES, TOGETHER, WITH_BUCKETS, made_up, names_for
from arcpipe.train.distributed import is_out_of_memory
from commands import environment

EAGER = [name for name in names_for(SHAPES["small"]) if KINDS[name].settings.get("compile") != "on"]

# All forms but the first few sizes of a batch must do with so much memory.
IN_LITTLE_MEMORY = """
import json, pathlib, resource, torch
from arcpipe.train.bench import TrainBenchSettings, bench_train
from arcpipe.train.bench_forms import PLAIN
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 500_000_000
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print(json.dumps(bench_train(TrainBenchSettings("small", 1024, 1, 1), [PLAIN, "arcpipe float32"])))
"""


def test_each_switch_is_measured_alone_and_compared_with_plain() -> None:
    rows, note = bench_train(TrainBenchSettings("small", 4, 2, 1), EAGER)
    assert [row["form"] for row in rows] == EAGER
    plain, *others = rows
    assert (plain["ratio"], plain["loss"], plain["gradient"]) == (1.0, 0.0, 0.0)
    for row in rows:
        assert row["batch"] == 4
        assert row["samples/s"] == pytest.approx(4 / row["seconds"])
        assert row["ratio"] == pytest.approx(row["samples/s"] / plain["samples/s"])
        assert row["of peak"] > 0
        assert row["compile s"] is None
    exact = [row for row in others if "bfloat16" not in row["form"]]
    assert max(row["gradient"] for row in exact) < 1e-5
    assert "memory GB" not in plain, "not known of a CPU"
    assert note.startswith("small on cpu, 1 thread(s); 0.00037 TFLOP a step of 4, 0.0711 of 768; ")


def test_the_forms_switch_one_thing_each_and_then_all_of_them() -> None:
    alone = [kind for name, kind in KINDS.items() if name.startswith("+ ")]
    assert all(len(kind.settings) + kind.buckets == 1 for kind in alone)
    together = {key: value for kind in alone for key, value in kind.settings.items()}
    assert KINDS[TOGETHER].settings == KINDS[WITH_BUCKETS].settings == together
    assert WITH_BUCKETS in names_for(SHAPES["arc-900"])
    assert not any(KINDS[name].buckets for name in names_for(SHAPES["sudoku-mlp"]))


def test_made_up_tasks_are_as_large_as_those_of_arc() -> None:
    puzzles = made_up(SHAPES["arc-900"])
    sides = puzzles.inputs.shapes.max(axis=1)
    assert (sides.min(), sides.max()) == (4, 30)
    assert (puzzles.inputs.shapes == puzzles.outputs.shapes).all()
    assert set(made_up(SHAPES["sudoku-mlp"]).inputs.shapes.ravel()) == {9}


def test_no_form_begins_when_the_time_is_up_but_the_plain_one() -> None:
    rows, _ = bench_train(TrainBenchSettings("small", 4, 3, 1, max_minutes=1e-9), EAGER)
    assert [row["seconds"] for row in rows[1:]] == [NO_TIME] * (len(EAGER) - 1)
    assert rows[0]["seconds"] > 0
    assert {row["ratio"] for row in rows[1:]} == {None}


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can be given less memory")
def test_where_memory_is_too_small_the_batch_is_halved_for_all() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY], env=environment() | {"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows, note = json.loads(done.stdout)
    sizes = {row["batch"] for row in rows}
    assert len(sizes) == 1
    assert sizes <= {2**power for power in range(10)}
    assert rows[0]["form"] == PLAIN
    assert rows[0]["seconds"] > 0
    assert note.endswith("; plain has too little memory for a batch of 1024")


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_what_a_gpu_says_when_its_memory_is_full_is_known(error: RuntimeError, known: bool) -> None:
    assert is_out_of_memory(error) == known


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(
        ArcpipeError, match="--shape larg: expected one of sudoku-mlp, arc-100, arc-900, small"
    ):
        bench_train(TrainBenchSettings("larg", 4, 1, 1))
