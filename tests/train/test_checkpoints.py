"""Which checkpoints are a run's own: only those count and go, and the way on from a damaged one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training import PARTS, assert_same_run, metrics, refused, settings, train

EVERY_THREE = settings("train", checkpoint_every=3)


@pytest.fixture(scope="module")
def six(work: Path) -> Path:
    """A run with checkpoints of steps 3 and 6."""
    train(work, work / "six", *EVERY_THREE, "--steps", 6)
    return work / "six"


@pytest.fixture(scope="module")
def nine(work: Path) -> Path:
    """What such a run is after nine steps, without a break."""
    train(work, work / "nine", *EVERY_THREE, "--steps", 9)
    return work / "nine"


@pytest.fixture
def run(six: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(six, tmp_path / "run")


def go_on(work: Path, run: Path, *flags: object) -> str:
    """What a training up to step nine says on stderr."""
    done = train(work, run, *EVERY_THREE, "--steps", 9, "--resume", *flags)
    assert done.stdout == f"{run}/checkpoints/step-00000009: step 9\n"
    return done.stderr


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def inside(path: Path) -> object:
    """What there is at a path."""
    if path.is_symlink():
        return path.readlink()
    return names(path) if path.is_dir() else path.read_bytes()


def put_strange(folder: Path) -> None:
    """Put into a folder of checkpoints all that is none of the run."""
    whole = folder / "step-00000003"
    (folder / "step-00999998").mkdir()
    for name in ("step-00000012", "step-99999999", "step-x"):
        (folder / name).write_text("mine")
    copies = ("step-00000003-keep", "step-00000006.bak", "a-copy", "step-", "step-abc", "step-3", "step-9")
    # The last one has another number than its manifest.
    for name in (*copies, "step-000000009", "Step-00000009", ".step-mine", "step-00000009"):
        shutil.copytree(whole, folder / name)
    (folder / "step-00000013").symlink_to(shutil.copytree(whole, folder.parent / "elsewhere"))
    (folder / "step-00000014").symlink_to(folder / "nothing")
    # What another process, which runs, may be writing.
    (folder / f".step-00000003.{os.getppid()}.tmp").mkdir()


def test_what_is_no_checkpoint_stays(work: Path, run: Path, nine: Path) -> None:
    folder = run / "checkpoints"
    own = names(folder)
    put_strange(folder)
    strange = {path.name: inside(path) for path in folder.iterdir() if path.name not in own}
    said = go_on(work, run)
    for name, content in strange.items():
        is_in_the_way = re.fullmatch(r"step-[0-9]{8}", name) is not None
        assert (f"checkpoints/{name}: is no whole checkpoint" in said) == is_in_the_way
        path = folder / (f"{name}.damaged" if is_in_the_way else name)
        assert inside(path) == content
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
    assert names(folder) == {"step-00000006", "step-00000009"}
    assert_same_run(run, nine)


def test_what_a_killed_process_left_goes(work: Path, run: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for parent in ("checkpoints", "evaluations"):
        (run / parent / f".step-00000006.{ended.pid}.tmp").mkdir(parents=True)
    (run / "evaluations" / "step-00000003").mkdir()
    (run / "evaluations" / "step-00000004").mkdir()
    go_on(work, run)
    assert names(run / "checkpoints") == {"step-00000006", "step-00000009"}
    # That of a checkpoint that went goes; what is of none stays.
    assert names(run / "evaluations") == {"step-00000004"}


def test_a_newest_folder_without_manifest_is_put_aside_each_time(work: Path, run: Path, nine: Path) -> None:
    for number in ("", "-2"):
        (run / "checkpoints" / "step-00000006" / "manifest.json").unlink()
        said = go_on(work, run) if number else train(work, run, *EVERY_THREE, "--steps", 6, "--resume").stderr
        assert "checkpoints/step-00000006: is no whole checkpoint: its manifest.json is missing" in said
        assert f"kept as step-00000006.damaged{number}\n" in said
        assert (run / "checkpoints" / f"step-00000006.damaged{number}" / "model.safetensors").exists()
    assert_same_run(run, nine)


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(work: Path, run: Path) -> None:
    for step in (3, 6):
        (run / "checkpoints" / f"step-{step:08d}" / "manifest.json").unlink()
    before = metrics(run)
    said = refused(work, run, *EVERY_THREE, "--resume")
    assert "none of its checkpoints is whole (step-00000003, step-00000006): copy the run again" in said
    assert metrics(run) == before


def test_a_damaged_file_is_named_with_the_way_on(work: Path, run: Path, nine: Path) -> None:
    """Later checkpoints are put aside whole."""
    newest = run / "checkpoints" / "step-00000006"
    contents = {part: (newest / part).read_bytes() for part in PARTS}
    for part in PARTS:
        for name, content in contents.items():
            (newest / name).write_bytes(content[: len(content) * 2 // 3] if name == part else content)
        said = refused(work, run, *EVERY_THREE, "--resume")
        assert said.startswith(f"{newest / part}: damaged checkpoint (")
        assert said.endswith("--resume --from-step N, with N one of 3")
        assert names(run / "checkpoints") == {"step-00000003", "step-00000006"}
    said = go_on(work, run, "--from-step", 3)
    assert "step-00000006: comes after the step to go on from; it is kept as step-00000006.aside" in said
    weights = newest.with_name("step-00000006.aside") / PARTS[0]
    assert weights.read_bytes() == contents[PARTS[0]]
    assert_same_run(run, nine)


def test_a_step_that_is_not_there_is_refused(work: Path, run: Path) -> None:
    said = refused(work, run, *EVERY_THREE, "--resume", "--from-step", 5)
    assert said.endswith("has no whole checkpoint of step 5, but those of steps 3, 6")
    assert "--from-step goes with --resume" in refused(work, run, *EVERY_THREE, "--from-step", 3)
    assert names(run / "checkpoints") == {"step-00000003", "step-00000006"}


def test_a_checkpoint_from_before_hashes_is_resumed(work: Path, run: Path, nine: Path) -> None:
    file = run / "checkpoints" / "step-00000006" / "manifest.json"
    manifest = json.loads(file.read_bytes())
    assert manifest.pop("files").keys() == set(PARTS)
    file.write_text(json.dumps(manifest))
    go_on(work, run)
    assert_same_run(run, nine)
