"""A bundle folder as Kaggle is to take it, and its history there, in a file of its own: what was sent."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from arcpipe.documents import read_file, read_json
from arcpipe.errors import DataError
from arcpipe.runs import MANIFEST, read_manifest, write_json

KIND = "kaggle-bundle"
DATASET = Path("dataset/dataset-metadata.json")
KERNEL = Path("kernel/kernel-metadata.json")
# As references stand in the addresses of Kaggle's pages.
_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:kaggle\.com/)?(?:(?:datasets|code|kernels|models|competitions|c)/)?"
)
_SOURCES = ("dataset_sources", "competition_sources", "kernel_sources", "model_sources")
_REFERENCE = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")
HISTORY_FILE = "kaggle-record.json"
_Version = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Bundle:
    """A bundle: its dataset and its kernel as owner/name, and the competitions that it mounts."""

    dataset: str
    kernel: str
    competitions: tuple[str, ...]


def read_bundle(folder: Path) -> Bundle:
    """Return the Bundle of a folder with `dataset/` and `kernel/`.

    Raises:  DataError naming file and field of what Kaggle would refuse or take for something else.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no bundle folder: see arcpipe kaggle bundle")
    if (folder / MANIFEST).exists():
        read_manifest(folder, KIND)
    path = folder / KERNEL
    dataset, kernel = _read_fields(folder / DATASET), _read_fields(path)
    for file, fields in ((folder / DATASET, dataset), (path, kernel)):
        reference = str(fields.get("id"))
        _refuse_page(file, "id", reference)
        if not _REFERENCE.fullmatch(reference):
            raise DataError(f"{file}: id: expected owner/name")
    if "id_no" in kernel:
        # As the client writes it when it pulls a notebook.
        raise DataError(f"{path}: id_no: remove it, it would be pushed there and not to {kernel['id']}")
    for name in ("is_private", "enable_gpu", "enable_tpu", "enable_internet"):
        if not isinstance(kernel.get(name, False), bool):
            raise DataError(f"{path}: {name}: expected true or false")
    if kernel.get("enable_internet") is not False:
        # Where the field is missing, the client switches the internet on.
        raise DataError(f"{path}: enable_internet: write false, a submission runs without internet")
    for name in _SOURCES:
        value = kernel.setdefault(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DataError(f"{path}: {name}: expected a list of names")
        for item in value:
            _refuse_page(path, name, item)
    if dataset["id"] not in {"/".join(source.split("/")[:2]) for source in kernel["dataset_sources"]}:
        raise DataError(f"{path}: dataset_sources: add {dataset['id']}, the dataset of this bundle")
    name = str(kernel.get("code_file"))
    if name != Path(name).name:
        raise DataError(f"{path}: code_file: expected the name of a file beside it")
    code_file = path.with_name(name)
    if code_file.suffix == ".ipynb":
        _read_fields(code_file)
    for file in sorted(one for part in (DATASET, KERNEL) for one in (folder / part.parent).rglob("*")):
        if file.is_symlink():
            raise DataError(f"{file}: is a link, which is not sent: put in its place what it leads to")
        if file.is_file() and not file.stat().st_size:
            raise DataError(f"{file}: an empty file, which Kaggle does not take: remove it")
    return Bundle(dataset["id"], kernel["id"], tuple(kernel["competition_sources"]))


def _refuse_page(path: Path, field: str, reference: str) -> None:
    """Raise DataError if a reference begins as the address of its page does."""
    match = _PAGE.match(reference)
    if match and match[0]:
        raise DataError(f"{path}: {field}: {reference!r}: write {reference[match.end() :]!r} only")


def _read_fields(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of fields")
    return content


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
