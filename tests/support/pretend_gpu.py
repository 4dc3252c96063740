"""Commands on a made-up device: `python pretend_gpu.py '[["train", ...], ["infer", ...]]'`.

The numbers of its tensors are on the CPU, in tensors of the same shape. As on a GPU, no operation takes
tensors of both devices, and what is on the device must be copied to be read. Recomputation of activations
does not work on it.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from torch import Tensor, UntypedStorage, library
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
# A GPU takes indices on the CPU, too.
INDEXED = ("aten.index.Tensor", "aten.index_put", "aten._index_put_impl_")

_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
# The numbers of each storage on the device, flat.
_on_cpu: WeakKeyDictionary[UntypedStorage, Tensor] = WeakKeyDictionary()


def is_own(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


def on_cpu(value: Any) -> Any:
    """Return the numbers of a tensor on the device, and the CPU for a device; anything else unchanged."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if not is_own(value):
        return value
    flat = _on_cpu[value.untyped_storage()]
    return flat.as_strided(value.shape, value.stride(), value.storage_offset())


def on_device(numbers: Tensor, owners: dict[int, Tensor]) -> Tensor:
    """Return a tensor on the device with these numbers.

    Args:  owners: tensors on the device by the address of their numbers; the result is a view of its owner.
    """
    # No inference tensors, because some operations set their version.
    with torch.inference_mode(False):
        owner = owners.get(numbers.untyped_storage().data_ptr()) if numbers.numel() else None
        if owner is not None:
            place = (numbers.shape, numbers.stride(), numbers.storage_offset())
            # The kernel of meta tensors, because that of the CPU looks for memory.
            view: Tensor = torch.ops.aten.as_strided.default.redispatch(_META, owner, *place)
            return view
        tensor: Tensor = torch._C._acc.create_empty_tensor(tuple(numbers.shape), numbers.dtype)
    _on_cpu[tensor.untyped_storage()] = numbers.contiguous().clone().flatten()
    return tensor


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with a function applied to all in its lists, tuples and dictionaries.

    torch's own `tree_map` takes ten times as long.
    """
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(function, one) for one in value])
    if isinstance(value, dict):
        return {key: mapped(function, one) for key, one in value.items()}
    return function(value)


@cache
def facts(op: Any) -> tuple[str, bool, list[bool]]:
    """Return the name of an operation, whether it changes an argument, and which arguments are tensors."""
    a_tensor = torch._C.TensorType.get()
    takes = [argument.type.isSubtypeOf(a_tensor) for argument in op._schema.arguments]
    return str(op), op._schema.is_mutable, takes


def run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation of the device on the CPU."""
    name, is_mutable, takes_tensor = facts(op)
    if name == "aten._copy_from.default":
        on_cpu(args[1]).copy_(on_cpu(args[0]))
        return args[1]
    own, others, numbers = list[Tensor](), list[Tensor](), dict[int, Tensor]()

    def unwrap(value: Any) -> Any:
        if not is_own(value):
            if isinstance(value, Tensor) and value.dim():
                others.append(value)
            return on_cpu(value)
        if id(value) not in numbers:
            own.append(value)
            numbers[id(value)] = on_cpu(value)
        return numbers[id(value)]

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        same = [one for one in own if numbers[id(one)] is value] if is_mutable else []
        return same[0] if same else on_device(value, owners)

    takes_host = name.startswith(INDEXED) and is_own(args[0])
    args, kwargs = mapped(unwrap, args), mapped(unwrap, kwargs)
    if own and others and not takes_host:
        raise RuntimeError(f"{name}: tensors are on {NAME}:0 and on the CPU")
    owners = {numbers[id(one)].untyped_storage().data_ptr(): one for one in own}
    # A number may stand for a tensor; then another overload takes it.
    has_number = any(
        is_tensor and isinstance(one, int | float) for one, is_tensor in zip(args, takes_tensor, strict=False)
    )
    results = (op.overloadpacket if has_number else op)(*args, **kwargs)
    for one in own:
        # PyTorch gives some operations an empty tensor to resize.
        if not one.numel() and numbers[id(one)].numel():
            one.data = on_device(numbers[id(one)], {})
    return mapped(wrap, results)


class Generator(torch.Generator):
    """A generator on the CPU: this device has none."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        return super().__new__(cls, "cpu" if torch.device(device).type == NAME else device)


if __name__ == "__main__":
    from arcpipe.commands.cli import app

    _setup_privateuseone_for_python_backend(NAME)
    # Held, because the device loses its operations with it.
    kernels = library.Library("_", "IMPL")
    kernels.fallback(run, "PrivateUse1")
    torch.Generator = Generator  # type: ignore[misc]
    torch.accelerator.synchronize = lambda *_: None  # type: ignore[assignment]
    Accelerator.device = property(lambda _: torch.device(NAME, 0))  # type: ignore[assignment]
    for command in json.loads(sys.argv[1]):
        app(command, standalone_mode=False)
