"""Which dtype to compute in on a device, and why; how many threads on a CPU."""

import torch

from arcpipe.errors import ArcpipeError


def compute_dtype(precision: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype for `precision` (auto, float32 or bfloat16) and the reason, for the log.

    `auto` takes bfloat16 where the device computes it in hardware; a GPU is asked for its compute
    capability, because `torch.cuda.is_bf16_supported()` also says yes where it is emulated.

    Raises:  ArcpipeError if bfloat16 is demanded of a GPU that would emulate it.
    """
    if precision == "float32":
        return torch.float32, "as the recipe says"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        native, what = capability >= (8, 0), f"compute capability {capability[0]}.{capability[1]}"
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported()
        what = f"this CPU has {'' if native else 'no '}avx512_bf16"
    else:
        native, what = False, f"not known for {device.type}"
    if precision == "bfloat16":
        if device.type == "cuda" and not native:
            raise ArcpipeError(f"train.precision is bfloat16, which {what} only emulates; use float32")
        return torch.bfloat16, "as the recipe says"
    return (torch.bfloat16 if native else torch.float32), f"auto: {what}"


def use_cpu_threads(count: int) -> None:
    """Compute with this many threads on the CPU from now on; 0 leaves it to torch."""
    if count:
        torch.set_num_threads(count)
