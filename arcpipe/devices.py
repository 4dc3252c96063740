"""Dtype, CPU threads and torch.compile of a device, with reasons for the log; operations and peak speed."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from arcpipe.errors import ArcpipeError, one_line, says_out_of_memory
from arcpipe.layers import Attention, mlp_width
from arcpipe.model_config import TRMConfig

_ONEDNN_HIDDEN_SIZE = 256
_MAX_PROGRAMS = 64
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def compute_dtype(precision: str, device: torch.device) -> tuple[torch.dtype, str]:
    """Return the dtype for `precision` (auto, float32, bfloat16 or float16) and the reason, for the log.

    `auto` is bfloat16 on hardware that supports it, and float16 on GPUs whose tensor cores support only that
    (compute capability 7: T4, V100). `torch.cuda.is_bf16_supported()` is also true for GPUs that emulate it.

    Raises:  ArcpipeError for bfloat16 on a GPU that would emulate it.
    """
    native, what = torch.float32, f"not known for {device.type}"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native = torch.bfloat16 if major >= 8 else torch.float16 if major == 7 else torch.float32
        what = f"compute capability {major}.{minor}"
    elif device.type == "cpu":
        has_bfloat16 = torch.cpu._is_avx512_bf16_supported()
        native = torch.bfloat16 if has_bfloat16 else torch.float32
        what = f"this CPU has {'' if has_bfloat16 else 'no '}avx512_bf16"
    if precision == "auto":
        return native, f"auto: {what}"
    if precision == "bfloat16" and device.type == "cuda" and native != torch.bfloat16:
        raise ArcpipeError(f"precision is bfloat16, which {what} only emulates; use float16, float32 or auto")
    return _DTYPES[precision], "as the recipe says"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch's or numpy's allocator raised this error."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or says_out_of_memory(str(error))


@contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Raise an ArcpipeError with this remedy instead of the error of an allocator."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ArcpipeError(f"out of memory {remedy} ({one_line(error)})") from None


def refuse_lone_processes(joined: int, device: torch.device) -> None:
    """Raise ArcpipeError if more processes were started than `joined`: each would do all the work."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if joined != started:
        raise ArcpipeError(
            f"{started} processes were started that Accelerate does not join on {device}: "
            "set ACCELERATE_USE_CPU=true, or start one"
        )


def _use_onednn(hidden_size: int) -> bool:
    """Use oneDNN for float32 matrix products on the CPU, if it is exact and faster; return whether it is.

    torch uses oneDNN only if rounding to bfloat16 is allowed, which a CPU without bfloat16 does not do. There
    oneDNN took half the time of the default at hidden size 512, and more time at 128 (AMD EPYC).
    """
    torch.set_float32_matmul_precision("highest")
    if hidden_size < _ONEDNN_HIDDEN_SIZE:
        return False
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 256, 256, generator=generator)
    exact = one.double() @ other.double()
    torch.set_float32_matmul_precision("medium")
    is_exact = bool(((one @ other) - exact).abs().max() < 1e-6 * exact.abs().max())
    if not is_exact:
        torch.set_float32_matmul_precision("highest")
    return is_exact


def ready_blocks(
    blocks: nn.ModuleList, *, hidden_size: int, dtype: torch.dtype, device: torch.device, threads: int,
    compiled: str, dynamic: bool | None,
) -> list[str]:  # fmt: skip
    """Set CPU threads, oneDNN and torch.compile; return log lines about what differs from torch's defaults.

    Args:  threads: 0 for torch's default. compiled, dynamic: as in `compile_blocks`.
    """
    notes = []
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cpu" and dtype == torch.float32 and _use_onednn(hidden_size):
        notes.append("float32 products by oneDNN: it does not round on this CPU")
    for module in blocks.modules():
        if isinstance(module, Attention):
            # On a CPU the backward pass of torch's attention takes up to eight times as long in 16 bits.
            module.in_float32 = device.type == "cpu"
    note = compile_blocks(blocks, compiled, device, dynamic)
    return [*notes, note] if compiled == "on" or device.type == "cuda" else notes


def compile_blocks(
    blocks: Iterable[nn.Module], compiled: str, device: torch.device, dynamic: bool | None = False
) -> str:
    """Compile each block of a network with torch.compile, depending on `compiled`; return a log line.

    Blocks are compiled one by one, because they share one program, which the recursion calls many times. If
    compilation fails, torch logs the reason and runs without it.

    Args:  compiled: auto, on or off; auto compiles on a GPU, where it pays off within minutes.
           dynamic: False compiles a program for each shape; None a second one for any number of rows.
    """
    if compiled == "off":
        return "not compiled: as the recipe says"
    if compiled == "auto" and device.type != "cuda":
        return "not compiled: auto, no GPU (compile = on is worth it for long runs of large models)"
    from torch._inductor import cpp_builder, exc
    from torch.utils._triton import has_triton

    if device.type == "cuda":
        if not has_triton():
            return "not compiled: triton is not installed or does not know this GPU"
    else:
        try:
            cpp_builder.get_cpp_compiler()
        except exc.InvalidCxxCompiler:
            return "not compiled: no C++ compiler (on Debian or Ubuntu: apt install g++)"
    torch._dynamo.config.suppress_errors = True
    # It would split a block at the buckets of DistributedDataParallel.
    torch._dynamo.config.optimize_ddp = False
    # There is a program for each canvas, with and without gradient; beyond the limit torch stops compiling.
    torch._dynamo.config.recompile_limit = _MAX_PROGRAMS
    for block in blocks:
        block.compile(dynamic=dynamic)
    why = "auto, a GPU" if compiled == "auto" else "as the recipe says"
    return f"torch.compile: {why}; the first step compiles, which takes a minute or more"


def is_compiled(block: nn.Module) -> bool:
    """Return whether a block is compiled, or will be at its first call."""
    return block._compiled_call_impl is not None


def train_step_flops(config: TRMConfig, num_tokens: int) -> float:
    """Return the operations of a supervision step with gradient, per sample.

    Counts matrix products only, which dominate; a multiply-add counts as two. The backward pass takes twice
    the operations of the last outer cycle.

    Args:  num_tokens: L, without the puzzle prefix.
    """
    tokens, size = config.prefix + num_tokens, config.hidden_size
    mlp = 3 * tokens * size * mlp_width(size, config.expansion)
    if config.mixer == "attention":
        mixer = 4 * tokens * size**2 + 2 * tokens**2 * size
    else:
        mixer = 3 * size * tokens * mlp_width(tokens, config.expansion)
    network = 2.0 * config.num_layers * (mixer + mlp)
    return (config.outer_cycles + 2) * (config.inner_cycles + 1) * network


def speed_text(flops_per_second: float) -> str:
    """Return a speed with two digits, in TFLOP/s or, below 1 TFLOP/s, in GFLOP/s."""
    unit, name = (1e12, "TFLOP/s") if flops_per_second >= 1e12 else (1e9, "GFLOP/s")
    return f"{float(f'{flops_per_second / unit:.2g}'):g} {name}"


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations per second of large square matrix products on a device: the best of a few runs.

    The operands are random, because constant ones draw less power, and a GPU would run at a higher clock than
    in training.
    """
    # Not at the top: inference does not need it, and the import is slow.
    from torch.utils.benchmark import Timer

    # A CPU without 16-bit products takes three seconds for one of side 1024.
    cpu_side = 1024 if dtype == torch.float32 else 512
    side = 8192 if device.type == "cuda" else cpu_side
    generator = torch.Generator(device).manual_seed(0)
    one, other = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    operands = {"one": one, "other": other, "product": torch.empty_like(one)}
    timer = Timer("torch.mm(one, other, out=product)", globals=operands, num_threads=torch.get_num_threads())
    return 2.0 * side**3 / min(timer.blocked_autorange(min_run_time=0.1).times)
