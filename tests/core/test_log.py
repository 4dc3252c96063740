import logging
import shlex
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from arcpipe.errors import OutputError
from arcpipe.log import Progress, logger, program, start_logging
from screens import Terminal

# Every write to it fails, as on a full disk.
FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_log_file_on_a_full_disk_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(FULL)
    (handler,) = (one for one in logger.handlers if isinstance(one, logging.FileHandler))
    try:
        with pytest.raises(OutputError, match=r"^/dev/full: cannot be written \(No space left on device\)$"):
            logger.info("a line")
    finally:
        logger.removeHandler(handler)
        with pytest.raises(OSError, match="No space left"):
            handler.close()
    assert "Traceback" not in capsys.readouterr().err


def test_a_bar_of_80_columns_keeps_the_first_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(24, 80, monkeypatch)
    with Progress(total=518_071, initial=1000, unit="step", desc="train", left_s=lambda: 0.0) as bar:
        bar.set_postfix_str(
            "loss 0.412, exact 0.512, halted after 2.0 steps, 221 samples/s, 52 GFLOP/s", False
        )
        bar.update(5000)
        bar.refresh()
    (drawn,) = terminal.lines()
    assert drawn.endswith("loss 0.412, exact 0.512]"), "whole figures only"
    assert drawn.startswith("train: 100%|"), "as many steps as there is time for"
    assert "6000/6000" in drawn


@pytest.mark.parametrize(
    ("rows", "columns", "height"), [(24, 80, 6), (10, 80, 6), (9, 12, 5), (5, 80, 1), (4, 80, 0)]
)
def test_a_drawing_is_redrawn_in_place_below_the_bar_and_stays(
    rows: int, columns: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between log lines and other bars; a drawing that is too large is cut off."""
    terminal = Terminal(rows, columns, monkeypatch)
    with Progress(total=9, initial=0, unit="step", desc="a") as bar:
        for number in range(3):
            bar.draw("\n".join(f"{line} of {number}, \x1b[31mlong\x1b[0m" for line in range(6)))
            tqdm.write(f"log {number}", file=sys.stderr)
            with Progress(total=1, initial=0, unit="grid", desc="b") as part:
                bar.refresh()
                part.update()
            tqdm.write("end", file=sys.stderr)
            bar.update()
            bar.refresh()
    tqdm.write("after", file=sys.stderr)
    drawing = [f"{line} of 2, long"[: columns - 1] for line in range(height)]
    lines = terminal.lines()
    assert lines[-1 - height :] == [*drawing, "after"]
    (last_bar,) = (row for row, line in enumerate(lines) if line.startswith("a:"))
    assert lines[last_bar + 1 : -1 - height] == [""] * bool(height)
    expected = [start for number in range(3) for start in (f"log {number}", "b:", "end")]
    assert [line if "b:" not in line else "b:" for line in lines[:last_bar]] == expected


@pytest.mark.parametrize(("started", "path", "typed"), [
    (".venv/bin/arcpipe", "/nowhere", ".venv/bin/arcpipe"),
    (".venv/bin/arcpipe", "HERE/.venv/bin", "arcpipe"),
    # Another arcpipe on the PATH is not the one that runs.
    ("with space/arcpipe", "HERE/.venv/bin", "'with space/arcpipe'"),
    ("notebook.py", "HERE/.venv/bin", "arcpipe"),
])  # fmt: skip
def test_the_program_is_named_as_it_can_be_typed_here(
    started: str, path: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".venv/bin/arcpipe", "with space/arcpipe"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path.replace("HERE", str(tmp_path)))
    monkeypatch.setattr(sys, "argv", [started])
    assert program() == typed
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "arcpipe" / "__main__.py")])
    assert program() == f"{shlex.quote(sys.executable)} -m arcpipe"
