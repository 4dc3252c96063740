"""What a GPU needs, tested without one: whole graphs, few operations, one sync a step, known memory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor.utils import get_code
from torch.overrides import TorchFunctionMode
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode

import pretend_gpu
from arcpipe.devices import compile_blocks
from arcpipe.layers import Block, rope_tables
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import load_recipe
from arcpipe.train.config import TrainSettings
from arcpipe.train.dry_run import peak_bytes
from arcpipe.train.run import TrainRun
from arcpipe.train.state import fresh_state
from arcpipe.train.step import train_step
from processes import running
from puzzles import BUCKETS
from steps import CONFIG, random_batch
from steps import fresh_state as made_up_state
from training import FLOW, TASK, assert_close, settings, train, train_arguments

# A warning turned into an error would end torch's compiler, which then falls back to eager mode.
pytestmark = pytest.mark.filterwarnings("ignore")

# Views, which compute nothing.
VIEWS = (
    "view", "expand", "permute", "transpose", "unsqueeze", "slice", "select", "split", "detach", "alias",
    "t.", "unbind", "as_strided",
)  # fmt: skip
KERNELS_OF_AN_UPDATE, KERNELS_OF_A_STEP, KERNELS_OF_A_COMPILED_BLOCK = 54, 1550, 9
ARC = replace(CONFIG, outer_cycles=3, inner_cycles=4, num_layers=2, hidden_size=32)
READS = (
    "item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "unique", "equal", "__bool__", "__int__",
    "__float__", "__index__", "__array__",
)  # fmt: skip

needs_compiler = pytest.mark.skipif(
    compile_blocks([], "on", torch.device("cpu")).startswith("not compiled"), reason="no C++ compiler"
)


class Operations(TorchDispatchMode):
    """Records the operations that compute."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").lstrip("_")
        self.names += [name] if not name.startswith(VIEWS) and "unsafe_view" not in name else []
        return func(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Records operations that make the host wait for a tensor on the device."""

    def __init__(self, of_host: list[Tensor]) -> None:
        super().__init__()
        self.of_host = {id(tensor) for tensor in of_host}
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        masks = name == "__getitem__" and any(
            isinstance(one, Tensor) and one.dtype == torch.bool
            for one in (args[1] if isinstance(args[1], tuple) else args[1:])
        )
        if (name in READS or masks) and id(args[0]) not in self.of_host:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_one_thing_is_read_back_a_step() -> None:
    """Whether loss and gradient are finite."""
    state, accelerator = made_up_state(4, config=ARC), Accelerator(cpu=True)
    train_step(state, random_batch(4), TrainSettings(batch_size=4), 1.0, accelerator)
    steps = [entry["step"] for optimizer in state.optimizers for entry in optimizer.state.values()]
    with Reads(steps) as reads:
        train_step(state, random_batch(4), TrainSettings(batch_size=4), 1.0, accelerator)
    assert reads.names == ["tolist"]


def kernels(config: TRMConfig) -> int:
    """The operations that compute in a step."""
    state, accelerator = made_up_state(4, config=config), Accelerator(cpu=True)
    train_step(state, random_batch(4), TrainSettings(batch_size=4), 1.0, accelerator)
    with Operations() as operations:
        train_step(state, random_batch(4), TrainSettings(batch_size=4), 1.0, accelerator)
    return len(operations.names)


def test_the_operations_of_a_step_stay_few() -> None:
    whole = kernels(ARC)
    assert whole <= KERNELS_OF_A_STEP
    # A further outer cycle updates the latent four times and the answer once, without gradient.
    assert kernels(replace(ARC, outer_cycles=4)) - whole <= 5 * KERNELS_OF_AN_UPDATE


@needs_compiler
def test_a_compiled_block_is_nine_kernels() -> None:
    """Four products, attention, and the rest fused into four kernels."""
    block = Block(replace(CONFIG, hidden_size=32), 17).requires_grad_(False)
    x, rope = torch.randn(2, 17, 32), rope_tables(17, 16, 10_000.0)
    with torch.no_grad():
        code = get_code(torch.compile(block, dynamic=False), x, rope)[0]
    lines = map(str.strip, code[code.index("def call(") :].splitlines())
    names = ("extern_kernels.", "cpp_fused", "_scaled_dot_product")
    calls = [line for line in lines if not line.startswith(("#", "assert"))]
    launched = [line for line in calls if any(name in line for name in names)]
    assert len(launched) <= KERNELS_OF_A_COMPILED_BLOCK, launched


def test_what_runs_on_a_cpu_runs_on_another_device(work: Path, tmp_path: Path) -> None:
    """Trainings with an evaluation, inference and a dry run, on a device whose tensors mix with no others."""
    views = [*TASK, *settings("model", views="true"), *settings("train", optimizer="muon", color_noise=0.4)]
    views += settings("train", accumulation=2)
    host = settings("train", puzzle_memory="host")
    small = settings("model", buckets=BUCKETS, loop_residual="true", outer_cycles=1)
    cases: dict[str, tuple[str, list[str]]] = {
        "task": ("fresh", views),
        "buckets": ("sized/data", [*host, *small]),
        "flow": ("sudoku", FLOW),
    }
    commands: list[list[object]] = []
    for name, (data, own) in cases.items():
        # Samples end at the second step, the last one evaluates.
        flags = [*own, *settings("model", max_steps=2, inner_cycles=1), *settings("eval", every=3, votes=1)]
        train(work, tmp_path / name, *flags, "--steps", 3, data=data)
        commands.append(train_arguments(work, tmp_path / f"{name}-device", *flags, "--steps", 3, data=data))
    run = tmp_path / "buckets-device"
    words = ["--data", work / "sized/data", "--out", run / "predictions", "--votes", "1", "--halt", "learned"]
    commands += [
        ["infer", "--checkpoint", run, *words],
        train_arguments(work, run, *host, *settings("train", precision="float16"), "--dry-run"),
    ]
    listed = json.dumps([[str(word) for word in command] for command in commands])
    with running([listed], work, script=Path(pretend_gpu.__file__)) as process:
        process.finish(code=0)
    for name in cases:
        assert_close(tmp_path / f"{name}-device", tmp_path / name)


@needs_compiler
def test_nothing_is_compiled_after_the_first_step_and_in_one_piece(work: Path, tmp_path: Path) -> None:
    """A program for each of three canvases, with and without gradient; weights are cast at each step."""
    flags = [*settings("model", buckets=BUCKETS), *settings("train", compile="on", precision="bfloat16")]
    torch._dynamo.reset()
    counters.clear()
    with torch.compiler.set_stance("default", force_backend="eager"):
        train(work, tmp_path / "run", *flags, "--steps", 3, data="sized/data")
    torch._dynamo.reset()
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 6, "the first step uses all six"


@contextmanager
def most_allocated(found: list[int]) -> Iterator[None]:
    """Append the peak of the bytes that the CPU allocator gave in the block."""
    with profile(profile_memory=True) as profiled:
        yield
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    now, most = 0, 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    found.append(most)


@pytest.mark.parametrize(("precision", "recompute"), [("float32", False), ("bfloat16", True)])
def test_the_memory_of_a_step_is_known_without_taking_it(work: Path, precision: str, recompute: bool) -> None:
    changes = ["train.batch_size=32", f"train.precision={precision}", f"train.recompute={recompute}".lower()]
    tables = load_recipe(str(work / "tiny.toml"), changes).resolve(
        {"model": TRMConfig, "train": TrainSettings}
    )
    run = TrainRun(
        puzzles=read_puzzle_set(work / "data"), data_dir=work / "data", config=tables["model"],
        settings=tables["train"], recipe={}, out=Path("none"),
    )  # fmt: skip
    accelerator = Accelerator(cpu=True)
    batch, allocated = run.stream()[0], list[int]()
    with most_allocated(allocated):
        state = fresh_state(run, accelerator)
        for _ in range(2):
            train_step(state, batch, run.settings, 1.0, accelerator)
    _, peak = peak_bytes(run, state, state.carry.answer.dtype)
    assert peak == pytest.approx(allocated[0], rel=0.1)
