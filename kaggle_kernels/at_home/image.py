"""A Python that stands for Kaggle's image: what the image has, in the versions of this machine, no more."""

import os
import subprocess
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from arcpipe.errors import ArcpipeError
from arcpipe.kaggle_kernels.at_home.wheels import AT_HOME, image_packages, own_requirements, required_by

# What runs notebooks and installs wheels is part of the image.
_JUPYTER = ("pip", "nbclient", "nbformat", "ipykernel")
_PASSED_ON = ("LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


def make_image(folder: Path) -> Path:
    """Make a new environment in `folder`, without arcpipe; return its Python.

    Packages are links to those installed here. What the image lacks is not there, unless a package that is
    there needs it on this machine.

    Raises:  ArcpipeError if a package that the rehearsal needs is not installed here.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    for package in _packages():
        tops = {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())
    return folder / "bin" / "python"


def _packages() -> Iterator[metadata.Distribution]:
    """The packages of arcpipe's and Jupyter's that the image has, and all that they require here."""
    image = image_packages()
    of_arcpipe = [
        requirement
        for requirement in required_by(own_requirements())
        if canonicalize_name(requirement.name) not in AT_HOME
        and requirement.specifier.contains(
            image.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
    ]
    queue, seen = [*of_arcpipe, *map(Requirement, _JUPYTER)], set()
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            package = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement.name in _JUPYTER:
                remedy = f"pip install {requirement.name}"
                raise ArcpipeError(f"{requirement.name}: a rehearsal needs it: {remedy}") from None
            continue
        yield package
        for extra in ("", *requirement.extras):
            queue += required_by(package.requires or [], extra)


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
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return [], "there is no command unshare here"
    except subprocess.TimeoutExpired:
        return [], "unshare does not answer"
    if tried.returncode:
        return [], " ".join(tried.stderr.split())
    return command, ""
