"""A Python that stands for Kaggle's image: what the image has, in the versions of this machine, no more."""

import os
import subprocess
import venv
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from arcpipe.errors import ArcpipeError

_PASSED_ON = ("LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


def image_packages() -> dict[str, str]:
    """Return the packages of Kaggle's image, by canonical name, with their versions."""
    file = resources.files("arcpipe.kaggle_kernels.at_home") / "templates" / "image-packages.txt"
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def make_image(folder: Path) -> Path:
    """Make a new environment in `folder`, without arcpipe; return its Python.

    Packages are links to those installed here. What the image lacks is not there, unless a package that is
    there needs it on this machine.

    Raises:  ArcpipeError if this machine has no pip, which the notebook calls.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    for package in _packages():
        for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())
    if not (site / "pip").exists():
        raise ArcpipeError("pip: a rehearsal needs it: python -m ensurepip")
    return folder / "bin" / "python"


def _packages() -> Iterator[metadata.Distribution]:
    """Yield the packages of the image that are installed here, and all that they require here."""
    queue, seen = [Requirement(name) for name in image_packages()], set()
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            package = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        yield package
        queue += [
            dependency
            for dependency in map(Requirement, package.requires or [])
            if dependency.marker is None
            or any(dependency.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]


def variables(python: Path, home: Path) -> dict[str, str]:
    """Return the variables of a process on Kaggle, none of this machine's that could help or disturb it."""
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join((str(python.parent), os.defpath))
    return {
        **own, "PATH": path, "HOME": str(home), "JUPYTER_PLATFORM_DIRS": "1", "HF_HUB_OFFLINE": "1",
        "PYTHONNOUSERSITE": "1", "KAGGLE_KERNEL_RUN_TYPE": "Batch",
    }  # fmt: skip


def without_network() -> tuple[list[str], str]:
    """Return what to put before a command so that it has no network, and why that cannot be, if it cannot."""
    command = ["unshare", "--map-root-user", "--net", "--"]
    try:
        subprocess.run([*command, "true"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [], " ".join(str(getattr(error, "stderr", "") or error).split())
    return command, ""
