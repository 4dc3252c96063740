"""The history of a bundle on Kaggle, in a file of its folder: versions and submissions that were sent."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from arcpipe.errors import ArcpipeError, DataError
from arcpipe.log import logger
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
    """A version of a kernel that was sent, and its page."""

    reference: str
    version: _Version
    url: str


@dataclass
class SentSubmission:
    """A submission that was about to be sent; its reference is known once Kaggle has taken it."""

    competition: str
    kernel: str
    version: _Version
    sha256: str
    time: str
    reference: int | None = None


@dataclass
class History:
    """The dataset and the kernel that were sent last, and all submissions, the oldest first."""

    dataset: SentDataset | None = None
    kernel: SentKernel | None = None
    submissions: list[SentSubmission] = Field(default_factory=list)


def read_history(bundle: Path) -> History:
    """Return the history of a bundle; an empty one if nothing has been sent."""
    path = bundle / HISTORY_FILE
    try:
        return TypeAdapter(History).validate_json(path.read_bytes())
    except FileNotFoundError:
        return History()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its JSON"
        raise DataError(
            f"{path}: {where} is broken: move the file away, and see arcpipe kaggle scores before you submit"
        ) from None


def write_history(bundle: Path, history: History) -> None:
    """Write the history in the place of the one before."""
    write_json(bundle / HISTORY_FILE, asdict(history))


@contextmanager
def at_work(bundle: Path) -> Iterator[None]:
    """Lock a bundle for the block, where its file system has locks: one command at a time sends from it.

    Raises:  ArcpipeError if another one does, or the folder cannot be read.
    """
    try:
        descriptor = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DataError(f"{bundle}: no bundle folder ({error.strerror}): see arcpipe kaggle bundle") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArcpipeError(
                f"{bundle}: another command sends from it: wait until that has ended"
            ) from None
        except OSError as error:
            why = error.strerror
            logger.warning("%s: cannot be locked (%s): let no other command send from it now", bundle, why)
        yield
    finally:
        os.close(descriptor)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file of the bundle.

    Raises:  DataError if it cannot be read or is none.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): is this a bundle folder?") from None
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: no JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of fields")
    return content
