"""The notebook of a bundle, and the metadata by which Kaggle knows its dataset and its kernel."""

import re
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from arcpipe import __version__
from arcpipe.errors import ArcpipeError
from arcpipe.kaggle_kernels.on_kaggle.budget import KaggleSettings
from arcpipe.kaggle_kernels.on_kaggle.run import REPORT, RERUN_VARIABLE, ROOT_VARIABLE, SMOKE, SUBMISSION

NOTEBOOK = "notebook.ipynb"
_CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
# Kaggle takes titles and names of 6 to 50 characters; the dataset's has its ending added.
_SHORTEST, _LONGEST, _DATASET = 6, 50, "-data"


@dataclass(frozen=True)
class KaggleNames:
    """The owner of dataset and kernel on Kaggle, and the kernel's name there."""

    owner: str
    slug: str

    def check(self) -> None:
        """Check the names; raise ArcpipeError for what Kaggle would refuse or change."""
        if not _OWNER.fullmatch(self.owner):
            raise ArcpipeError(f"--owner {self.owner!r}: expected your name on Kaggle, as in kaggle.com/NAME")
        longest = _LONGEST - len(_DATASET)
        if not _SLUG.fullmatch(self.slug) or not _SHORTEST <= len(self.slug) <= longest:
            raise ArcpipeError(
                f"--name {self.slug!r}: expected {_SHORTEST} to {longest} characters a-z and 0-9, with "
                "single hyphens between them"
            )

    @property
    def kernel(self) -> str:
        """Return the kernel as owner/name."""
        return f"{self.owner}/{self.slug}"

    @property
    def dataset(self) -> str:
        """Return the dataset as owner/name."""
        return f"{self.owner}/{self.slug}{_DATASET}"

    @property
    def title(self) -> str:
        """Return the kernel's title, which Kaggle turns into its very name."""
        return self.slug.replace("-", " ")


def dataset_metadata(names: KaggleNames) -> dict[str, Any]:
    """Return the content of dataset-metadata.json: a private dataset."""
    title = f"{names.title} data"
    return {"id": names.dataset, "title": title, "licenses": [{"name": "other"}]}


def kernel_metadata(names: KaggleNames, settings: KaggleSettings) -> dict[str, Any]:
    """Return the content of kernel-metadata.json: a private notebook without internet, with the dataset and
    the competition mounted."""
    machine = {"machine_shape": settings.machine_shape} if settings.machine_shape else {}
    return {
        "id": names.kernel,
        "title": names.title,
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": bool(settings.machine_shape),
        "enable_tpu": False,
        "enable_internet": False,
        **machine,
        "dataset_sources": [names.dataset],
        "competition_sources": [settings.competition],
        "kernel_sources": [],
        "model_sources": [],
    }


def notebook(names: KaggleNames, settings: KaggleSettings, digest: str) -> dict[str, Any]:
    """Return the notebook, as its JSON.

    Args:  digest: the SHA-256 of the bundle.json that it goes with.
    """
    room = resources.files("arcpipe.kaggle_kernels")
    text = Template((room / "at_home" / "templates" / "notebook.txt").read_text("utf-8")).substitute(
        title=names.title, version=__version__, smoke_minutes=f"{settings.smoke_minutes:g}",
        mounts=(room / "on_kaggle" / "mounts.py").read_text("utf-8"), competition=settings.competition,
        digest=digest, dataset=names.dataset, root_variable=ROOT_VARIABLE, rerun_variable=RERUN_VARIABLE,
        submission=SUBMISSION, smoke=SMOKE, report=REPORT,
    )  # fmt: skip
    _, *parts = _CELL.split(text)
    cells = [
        _cell(f"cell-{number}", bool(markdown), source)
        for number, (markdown, source) in enumerate(zip(parts[::2], parts[1::2], strict=True))
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(name: str, is_markdown: bool, source: str) -> dict[str, Any]:
    if is_markdown:
        text = re.sub(r"^# ?", "", source.strip(), flags=re.MULTILINE)
        return {"id": name, "cell_type": "markdown", "metadata": {}, "source": text}
    code = {"id": name, "cell_type": "code", "metadata": {}, "source": source.strip()}
    return {**code, "execution_count": None, "outputs": []}
