"""What commands refuse: the files of a case, and that one line says what is wrong and nothing changes."""

import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from commands import fail_here

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


def assert_refused(command: str, says: str, *, logs: bool = False, **folders: Path) -> str:
    """Run a command that must fail; return its line, which has all parts of `says`, between `|`.

    Neither the working folder nor those of `folders` may change; their names in the command stand for them.
    """
    words = command.split()
    for name, folder in folders.items():
        words = [word.replace(name, str(folder)) for word in words]
    places = (Path(), *folders.values())
    before = [dict(_contents(place)) for place in places]
    said = fail_here(*words, logs=logs)
    assert [part for part in says.split("|") if part not in said] == [], said
    assert [dict(_contents(place)) for place in places] == before
    return said


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        yield path, path.read_bytes() if path.is_file() else b""
