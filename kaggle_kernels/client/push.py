"""A bundle folder on its way to Kaggle: its dataset first, then the kernel that mounts it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcpipe.errors import DataError
from arcpipe.kaggle_kernels.client.history import History, SentDataset, SentKernel, write_history
from arcpipe.kaggle_kernels.client.kaggle import Kaggle
from arcpipe.kaggle_kernels.client.retry import KaggleError, poll, shorten
from arcpipe.log import logger
from arcpipe.runs import MANIFEST, file_hash, read_manifest
from arcpipe.task import read_json

KIND = "kaggle-bundle"
DATASET = Path("dataset/dataset-metadata.json")
KERNEL = Path("kernel/kernel-metadata.json")
# As references stand in the addresses of Kaggle's pages.
_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:kaggle\.com/)?(?:(?:datasets|code|kernels|models|competitions|c)/)?"
)
_SOURCES = ("dataset_sources", "competition_sources", "kernel_sources", "model_sources")
_REFERENCE = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")
_READY = "ready"
_HOPELESS = ("failed", "deleted")
# Fields of Kaggle's answer that name what it left out of the kernel, although it took the rest.
_LOST = (
    "invalid_dataset_sources", "invalid_competition_sources", "invalid_kernel_sources",
    "invalid_model_sources", "invalid_tags",
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A bundle folder: its dataset and its kernel as owner/name, and the competitions that it mounts."""

    folder: Path
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
        reference = fields.get("id")
        if not isinstance(reference, str):
            raise DataError(f"{file}: id: expected owner/name")
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
    for file in sorted((folder / DATASET.parent).iterdir()):
        if file.is_file() and not file.stat().st_size:
            raise DataError(f"{file}: an empty file, which Kaggle does not take: remove it")
    return Bundle(folder, dataset["id"], kernel["id"], tuple(kernel["competition_sources"]))


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


def push_dataset(kaggle: Kaggle, bundle: Bundle, history: History, max_minutes: float) -> SentDataset:
    """Push the bundle's dataset; return its version on Kaggle, once it is ready to be mounted.

    What was sent already, with these very files, is not sent again.
    """
    folder = bundle.folder / DATASET.parent
    sha256, sent = file_hash(folder), history.dataset
    for reference in (bundle.dataset, bundle.kernel):
        kaggle.refuse_other_case(reference)
    state = kaggle.dataset_state(bundle.dataset)
    status, version = state or ("", 0)
    is_current = (
        sent is not None
        and (sent.reference, sent.sha256) == (bundle.dataset, sha256)
        # It is what Kaggle has, or will have.
        and state is not None and version <= sent.version and status not in _HOPELESS
    )  # fmt: skip
    if sent is None or not is_current:
        sent = SentDataset(bundle.dataset, version + 1, sha256)
        kaggle.send_dataset(folder, f"arcpipe {sha256[:8]}", is_new=state is None)
        history.dataset = sent
        write_history(bundle.folder, history)
    _wait_until_ready(kaggle, sent, max_minutes)
    return sent


def _wait_until_ready(kaggle: Kaggle, sent: SentDataset, max_minutes: float) -> None:
    def look() -> tuple[str, bool | None]:
        state = kaggle.dataset_state(sent.reference)
        if state is None:
            return "not there yet", None
        status, version = state
        if status in _HOPELESS:
            raise KaggleError(
                f"{sent.reference} version {sent.version}: Kaggle says {status}: look at its page on "
                "kaggle.com, then push again"
            )
        return f"{status} at version {version}", (status == _READY and version >= sent.version) or None

    poll(look, f"{sent.reference} version {sent.version}", kaggle.pace, max_minutes)


def push_kernel(kaggle: Kaggle, bundle: Bundle, history: History) -> SentKernel:
    """Push the bundle's kernel; return its new version, which Kaggle begins to run.

    Raises:  KaggleError if Kaggle refused it, or took it without some of its sources.
    """
    folder = bundle.folder / KERNEL.parent
    # A failed push must not leave an earlier version to be submitted in its place.
    history.kernel = None
    write_history(bundle.folder, history)
    try:
        answer = kaggle.push_kernel(folder)
    except KaggleError as error:
        if not error.undecided:
            raise
        raise KaggleError(f"{error}; see {bundle.kernel} on kaggle.com first: it may be there") from None
    if answer.error or not answer.version_number:
        reason = shorten(answer.error) or "it names no version"
        raise KaggleError(f"{folder}: Kaggle refused the kernel: {reason}: mend that, and push again")
    page = f"{answer.ref} {answer.url}".strip()
    if page and bundle.kernel.lower() not in page.lower():
        raise KaggleError(f"{folder}: Kaggle took it as {page}: make id and title of its metadata agree")
    losses = [f"{name.removeprefix('invalid_')} {', '.join(getattr(answer, name))}"
            for name in _LOST if getattr(answer, name)]  # fmt: skip
    sha256 = hashlib.sha256(f"{file_hash(bundle.folder / DATASET.parent)}{file_hash(folder)}".encode())
    kernel = SentKernel(bundle.kernel, answer.version_number, answer.url, sha256.hexdigest())
    if losses:
        raise KaggleError(
            f"{kernel.name} runs without its {'; '.join(losses)}: Kaggle does not know them, or not for you: "
            f"mend {bundle.folder / KERNEL}, and push again"
        )
    history.kernel = kernel
    write_history(bundle.folder, history)
    logger.info("%s is running", kernel.name)
    return kernel
