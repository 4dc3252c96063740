"""Write, read and change files: those that a command reads, documents of JSON, and manifests."""

import json
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

Files = dict[str, Any]


def lay_out(files: Files, folder: Path = Path()) -> None:
    """Write files: texts, JSON, rows of a .jsonl, columns of a .parquet, members of an archive.

    A name that ends in `/` is an empty folder.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        elif isinstance(content, str):
            path.write_text(content)
        elif name.endswith(".jsonl"):
            path.write_text("".join(f"{json.dumps(row)}\n" for row in content))
        elif name.endswith(".parquet"):
            parquet.write_table(pa.table(content), path)
        elif name.endswith((".zip", ".tar.gz")):
            _pack(path, content)
        else:
            path.write_text(json.dumps(content))


def _pack(path: Path, members: Files) -> None:
    folder = path.parent / "packed"
    lay_out(members, folder)
    names = {name: (folder / name).resolve() for name in members}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in names.items():
                archive.write(file, name)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, file in names.items():
                tar.add(file, name)


def json_of(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_bytes())


@contextmanager
def changing(path: Path) -> Iterator[Any]:
    """Yield the content of a JSON file; write it again as the block leaves it."""
    content = json_of(path)
    yield content
    path.write_text(json.dumps(content))


def forget_hashes(folder: Path) -> Path:
    """Remove the hashes from a checkpoint's manifest, so that its files can be changed; return the folder."""
    with changing(folder / "manifest.json") as manifest:
        del manifest["files"]
    return folder
