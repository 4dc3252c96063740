"""What a rehearsal says of 240 tasks on the machine of the competition."""

from collections.abc import Mapping
from typing import Any

NUM_TASKS = 240
"""Tasks of the scored rerun of ARC Prize 2025 and 2026."""

PEAKS = {"NvidiaL4": (4, 121e12), "NvidiaTeslaT4": (2, 65e12)}
"""By Kaggle's name of a machine: its GPUs, and the dense products of each in operations a second.

Source:  NVIDIA's data sheets: L4 in bfloat16 (242e12 with sparsity), T4 in float16.
"""


def estimate(report: Mapping[str, Any], settings: Mapping[str, Any], peak_here: float) -> dict[str, float]:
    """What inference and adaptation would take for 240 tasks, here and on the named machine; nothing if the
    run answered no grid.

    That machine is taken to be as much faster as its products are: a guess, within a factor of a few.

    Args:    report: of a rehearsal's run. settings: the table [kaggle] of the bundle.
             peak_here: operations a second of this machine.
    """
    infer_s = sum(stage["seconds"] for stage in report.get("stages", ()) if stage["name"] == "infer")
    if not infer_s or not report["grids"]:
        return {}
    gpus, peak = PEAKS.get(settings["machine_shape"], (1, peak_here))
    faster = gpus * peak / peak_here
    hours = infer_s / 3600 * report["grids_wanted"] / report["grids"] * NUM_TASKS / report["tried_tasks"]
    speed = report["trained"].get("samples_per_second") or 0.0
    return {
        "infer_hours_here": hours,
        "infer_hours_there": hours / faster,
        "infer_hours_planned": settings["infer_minutes"] / 60,
        "samples_per_second_here": speed,
        "samples_per_second_there": speed * faster,
    }


def estimate_text(found: Mapping[str, float], settings: Mapping[str, Any]) -> str:
    """The estimate in two lines."""
    if not found:
        return "no grid was answered, so nothing can be said of 240 tasks"
    machine = settings["machine_shape"] or "this machine"
    return (
        f"{NUM_TASKS} tasks: inference {found['infer_hours_here']:.2f} h here, about "
        f"{found['infer_hours_there']:.2f} h on {machine}, planned {found['infer_hours_planned']:.2f} h\n"
        f"adaptation: {found['samples_per_second_here']:.0f} samples/s here, about "
        f"{found['samples_per_second_there']:.0f} on {machine} (by the products it computes: a guess)"
    )
