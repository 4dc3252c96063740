"""The history of a bundle on Kaggle, in a file of its folder: versions and submissions that were sent."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from arcpipe.documents import read_file
from arcpipe.errors import DataError
from arcpipe.runs import write_json

HISTORY_FILE = "kaggle-record.json"
_Version = Annotated[int, Field(ge=1)]


@dataclass
class SentDataset:
    """A version of a dataset that was sent: its reference, its number, and the hash of its files."""

    reference: str
    version: _Version
    sha256: str


@dataclass
class SentKernel:
    """A version of a kernel that was sent, its page, and the hash of the bundle; empty of older versions."""

    reference: str
    version: _Version
    url: str
    bundle: str = ""

    @property
    def name(self) -> str:
        """Return the version in words."""
        return f"{self.reference} version {self.version}"


@dataclass
class SentSubmission:
    """A submission that was about to be sent; its reference is known once Kaggle has taken it.

    run: 1, or which one it is of several submissions of one version.
    """

    competition: str
    kernel: str
    version: _Version
    sha256: str
    time: str
    reference: int | None = None
    run: int = 1

    @property
    def tag(self) -> str:
        """Return what its description on Kaggle begins with."""
        repeat = f", run {self.run}" if self.run > 1 else ""
        return f"[{self.kernel} version {self.version}{repeat}]"


@dataclass
class History:
    """The dataset and the kernel that were sent last, and all submissions, the oldest first.

    rehearsed: the share of its clock that the commit run took when it was rehearsed last; None if never.
    """

    dataset: SentDataset | None = None
    kernel: SentKernel | None = None
    submissions: list[SentSubmission] = Field(default_factory=list)
    rehearsed: float | None = None


def read_history(bundle: Path) -> History:
    """Return the history of a bundle; an empty one if nothing has been sent."""
    path = bundle / HISTORY_FILE
    if not path.exists():
        return History()
    try:
        return TypeAdapter(History).validate_json(read_file(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its JSON"
        raise DataError(
            f"{path}: {where} is broken: move the file away, and see arcpipe kaggle scores before you submit"
        ) from None


def write_history(bundle: Path, history: History) -> None:
    """Write the history in the place of the one before."""
    write_json(bundle / HISTORY_FILE, asdict(history))
