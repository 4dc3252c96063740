"""The wheel of arcpipe as it runs here, made without a network: what was rehearsed is what is sent."""

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import arcpipe
from arcpipe.runs import writing

_STEM, _TAG = f"arcpipe-{arcpipe.__version__}", "py3-none-any"
_FACTS = {
    "METADATA": f"Metadata-Version: 2.1\nName: arcpipe\nVersion: {arcpipe.__version__}\n"
    "Requires-Python: >=3.11\n",
    "WHEEL": f"Wheel-Version: 1.0\nGenerator: arcpipe\nRoot-Is-Purelib: true\nTag: {_TAG}\n",
    "entry_points.txt": "[console_scripts]\narcpipe = arcpipe.commands.cli:main\n",
}
# Always the same time, so that the same files make the same wheel.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_wheel(folder: Path) -> Path:
    """Write the wheel, from a checkout or an installed package; always the same bytes.

    It names no requirements: Kaggle's image has them all, and nothing could be fetched there.

    Source:  packaging.python.org, "Binary distribution format".
    """
    package = Path(arcpipe.__file__).parent
    # In a checkout the stages are links.
    paths = [Path(place, name) for place, _, names in os.walk(package, followlinks=True) for name in names]
    content = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in paths
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(package).parts)
    }
    info = f"{_STEM}.dist-info"
    content |= {f"{info}/{name}": text.encode() for name, text in _FACTS.items()}
    record = "".join(f"{path},{_digest(content[path])},{len(content[path])}\n" for path in sorted(content))
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    target = folder / f"{_STEM}-{_TAG}.whl"
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
