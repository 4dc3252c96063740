"""What all tests share."""

import errno
import fcntl
import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports torch: two threads on a busy machine can be ten times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run and no deadline: a busy machine must not turn a test red.
settings.register_profile("arcpipe", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("arcpipe")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of recorded numbers; its README.md explains them."""
    return Path(__file__).parent / "fixtures"


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, which it runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system has no locks."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while the tests are imported, and afterwards none among what is imported then."""
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files out, put those first whose tests start others: they take longest."""
    starters = {"subprocess", "run_arcpipe", "running", "running_together", "together"}
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: starters.isdisjoint(vars(getattr(item, "module", item))))
