"""Hostile files: every reader refuses them with one line, in little memory and time.

Each row is run under a limit of memory. The readers of predictions, tasks, submissions and checkpoints have
tables of what is merely wrong in files of their names. Paths that lead out of an archive stand in
tests/augment/test_sources.py, links in a bundle in tests/kaggle_kernels/test_push.py, those in any folder
that is written to in tests/core/test_runs.py.
"""

import bz2
import gzip
import json
import shutil
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from arcpipe.augment.build import write_puzzle_set
from arcpipe.puzzleset import read_puzzle_set
from candidates import candidate, table, write_folder
from commands import run_here
from files import changing, forget_hashes, json_of
from limited import Outcome, with_little_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")

MOST_GROWTH, MOST_SECONDS = 300 * 2**20, 15
MODULES = (
    "train.trainer",
    "commands.recipe",
    "commands.checkpoint",
    "submissions.report",
    "augment.commands",
)
CHECK = "check MINI/submission.json --challenges c.json"
DATA = "vote MINI/predictions --challenges data --out out"
ARCHIVE = "augment arc --source a.tar.gz --out out"
TRAIN = "train quickstart --data data --out out"
INFER, IMPORT = "infer --checkpoint c --data MINI/data --out out", "checkpoint import step_9 --out out"
CELLS = [[1, 2], [3, 4]]
# The least and the largest value of a large column would take seconds to find.
PACKED: Any = {"compression": "zstd", "write_statistics": False}
Case = tuple[str, str, Callable[[Path, Path], Any]]


def text(name: str, content: str) -> Callable[[Path, Path], Any]:
    return lambda here, _: (here / name).write_text(content)


def data(name: str, content: bytes) -> Callable[[Path, Path], Any]:
    return lambda here, _: (here / name).write_bytes(content)


def link(name: str, target: str) -> Callable[[Path, Path], Any]:
    return lambda here, _: (here / name).symlink_to(target)


def holding(name: str, content: str | bytes) -> Callable[[Path], Any]:
    """Replace the content of a file in a folder."""
    content = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(content)


def dataset(change: Callable[[Path], Any]) -> Callable[[Path, Path], Any]:
    """A copy of the dataset folder, changed."""
    return lambda here, mini: change(shutil.copytree(mini / "data", here / "data"))


def facts(file: str, **changes: Any) -> Callable[[Path], Any]:
    """Change a JSON file in a folder."""

    def change(folder: Path) -> None:
        with changing(folder / file) as content:
            content |= changes

    return change


def rebuilt(**changes: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """A dataset folder with other tables and a matching fingerprint."""

    def change(folder: Path) -> None:
        puzzles = read_puzzle_set(folder)
        manifest = json_of(folder / "manifest.json")
        shutil.rmtree(folder)
        others = {name: other(getattr(puzzles, name)) for name, other in changes.items()}
        write_puzzle_set(folder, replace(puzzles, **others), manifest)

    return change


def arrow(change: Callable[[Path, bytes], Any]) -> Callable[[Path], Any]:
    """Replace the file of the table of puzzles."""

    def make(folder: Path) -> None:
        (file,) = (folder / "puzzles").glob("*.arrow")
        change(file, file.read_bytes())

    return make


def packed(file: Path, content: bytes) -> None:
    """Write a table many times, compressed."""
    stored = pa.ipc.open_stream(content).read_all()
    rows = pa.concat_tables([stored] * 100_000).combine_chunks()
    with pa.ipc.new_stream(file, stored.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as sink:
        sink.write_table(rows)


def checkpoint(change: Callable[[Path], Any]) -> Callable[[Path, Path], Any]:
    """A changed copy of the checkpoint, without hashes."""

    def make(here: Path, mini: Path) -> None:
        (folder,) = (mini / "run" / "checkpoints").iterdir()
        change(forget_hashes(shutil.copytree(folder, here / "c")))

    return make


def config(**changes: Any) -> Callable[[Path], Any]:
    """Other settings of the network of a checkpoint."""

    def make(folder: Path) -> None:
        with changing(folder / "model.json") as content:
            content["config"] |= changes

    return make


def official(state: Any = None, settings: str = "arch: {}") -> Callable[[Path, Path], Any]:
    """A file of torch.save, and the settings of its training."""

    def make(here: Path, _: Path) -> None:
        torch.save({"a": torch.zeros(2)} if state is None else state, here / "step_9")
        (here / "all_config.yaml").write_text(settings)

    return make


def zipped(here: Path, mini: Path) -> None:
    """A file of torch.save whose parts are compressed."""
    official()(here, mini)
    with zipfile.ZipFile(here / "step_9") as stored:
        parts = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(here / "step_9", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content + (bytes(2**28) if name.endswith("data.pkl") else b""))


def predictions(**changes: Any) -> Callable[[Path, Path], Any]:
    """A file of one candidate with changed columns."""

    def make(here: Path, _: Path) -> None:
        stored = table([candidate(CELLS)])
        for name, values in changes.items():
            column = pa.array(values) if isinstance(values, list) else values
            stored = stored.set_column(stored.column_names.index(name), name, column)
        pq.write_table(stored, here / "p.parquet", **PACKED, use_dictionary=False)

    return make


def repeated(rows: int, **changes: Any) -> Callable[[Path, Path], Path]:
    """A file that repeats one candidate."""

    def make(here: Path, _: Path) -> Path:
        values = table([candidate(CELLS)]).to_pylist()[0] | changes
        zeros = pa.array(np.zeros(rows, np.int32))
        columns = {name: pa.DictionaryArray.from_arrays(zeros, [value]) for name, value in values.items()}
        pq.write_table(pa.table(columns), here / "p.parquet", compression="zstd")
        return here / "p.parquet"

    return make


def of_tasks(**columns: Callable[[], pa.Array]) -> Callable[[Path, Path], Any]:
    """A table of tasks of a few kilobytes."""
    return lambda here, _: pq.write_table(
        pa.table({name: values() for name, values in columns.items()}), here / "p.parquet", **PACKED
    )


def cells(number: int) -> pa.Array:
    """One grid of one row."""
    row = pa.ListArray.from_arrays([0, number], pa.array(np.zeros(number, np.int8)))
    return pa.ListArray.from_arrays([0, 1], row)


def lying(here: Path, mini: Path) -> None:
    """A file with a text of 200 MB, whose footer claims a hundred bytes."""
    predictions(colors=["0" * 2 * 10**8])(here, mini)
    file = here / "p.parquet"
    column = pq.ParquetFile(file).metadata.row_group(0)
    sizes = [column.column(place).total_uncompressed_size for place in range(column.num_columns)]
    content = file.read_bytes()
    for size in (max(sizes), sum(sizes)):
        true = varint(2 * size)
        assert true in content
        # The same number of bytes, so that nothing else moves.
        content = content.replace(true, varint(200, len(true)))
    file.write_bytes(content)


def varint(number: int, length: int = 0) -> bytes:
    """Encode a number for Thrift, in this many bytes."""
    parts = []
    while number or len(parts) < max(1, length):
        parts.append(number & 127)
        number >>= 7
    return bytes(part | 128 for part in parts[:-1]) + bytes(parts[-1:])


def footer(groups: bytes = b"\x19\x0c") -> Callable[[Path, Path], Any]:
    """A Parquet file without columns, with encoded row groups."""
    content = b"\x15\x02\x19\x1c\x48\x04root\x15\x00\x00\x16\x00" + groups + b"\x00"
    return data("p.parquet", b"PAR1" + content + struct.pack("<I", len(content)) + b"PAR1")


def encoded(here: Path, _: Path) -> None:
    """A file with delta-encoded texts."""
    stored = table([candidate(CELLS)]).set_column(4, "colors", [["0123456789"]])
    kinds = {"colors": "DELTA_BYTE_ARRAY"}
    pq.write_table(stored, here / "p.parquet", use_dictionary=False, column_encoding=kinds)


def many_shards(here: Path, mini: Path) -> None:
    """Small files of many rows, each within the limit."""
    write_folder(here / "p", [])
    (here / "p" / "shards").mkdir()
    for first in (0, 200_000):
        rows = pq.read_table(repeated(200_000)(here, mini)).drop_columns("order")
        rows = rows.append_column("order", pa.array(np.arange(first, first + 200_000)))
        file = here / "p" / "shards" / f"part-{first:010d}-rank0.parquet"
        pq.write_table(
            rows,
            file,
            compression="zstd",
            column_encoding={"order": "DELTA_BINARY_PACKED"},
            use_dictionary=["cells", "colors"],
        )


def squeezed(name: str, content: bytes) -> Callable[[Path, Path], Any]:
    return lambda here, _: (here / name).write_bytes(gzip.compress(content, 1))


def zip_of(content: bytes) -> Callable[[Path, Path], Any]:
    """An archive of one file of JSON."""

    def make(here: Path, _: Path) -> None:
        with zipfile.ZipFile(here / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("a.json", content)

    return make


def tar_of(kind: bytes, content: bytes, size: int | None = None) -> Callable[[Path, Path], Any]:
    """An archive with a member of a type, its content, and a file; less than 1 kB if the content is uniform.

    Args:  size: what the member says in place of the size of its content.
    """
    member = tarfile.TarInfo("a.json")
    member.type, member.size = kind, len(content) if size is None else size
    blocks = member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    return squeezed("a.tar.gz", blocks + tarfile.TarInfo("b.json").tobuf() + bytes(1024))


def latin_zip(here: Path, mini: Path) -> None:
    """An archive with a name that is not in the encoding that it says."""
    zip_of(b"[]")(here, mini)
    content = (here / "a.zip").read_bytes()
    at = content.index(b"PK\x01\x02")
    entry = bytearray(content[at:])
    entry[9] |= 0x08
    (here / "a.zip").write_bytes(content[:at] + entry.replace(b"a.json", b"\xe9.json"))


def pickled(here: Path, _: Path) -> None:
    """A file of torch.save that expands to a million empty sets."""
    with zipfile.ZipFile(here / "step_9", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"\x8f" * 10**6 + b".")


def puzzles(column: pa.Array) -> Callable[[Path], Any]:
    """A table of puzzles whose columns are all the same."""

    def change(file: Path, _: bytes) -> None:
        rows = pa.table({name: column for name in ("task", "dihedral", "colors")})
        with pa.ipc.new_stream(file, rows.schema) as sink:
            sink.write_table(rows)

    return arrow(change)


def linked(folder: str, part: str) -> Callable[[Path, Path], Any]:
    """A copy of a folder with a part replaced by a link to another place."""

    def make(here: Path, mini: Path) -> None:
        copy = shutil.copytree(mini / folder, here / folder)
        (copy / part).rename(here / "elsewhere")
        (copy / part).symlink_to(here / "elsewhere")

    return make


def of_two_runs(here: Path, _: Path) -> None:
    other = table([candidate(CELLS)] * 2 + [candidate(CELLS, checkpoint="other")]).slice(2)
    write_folder(here / "p", [table([candidate(CELLS)]), other])
    facts("manifest.json", checkpoint="c")(here / "p")


def names(count: int) -> str:
    """Records of a training without a common metric."""
    return "".join(f'{{"step": {number}, "m{number}": 1}}\n' for number in range(count))


def run_of(metrics: str) -> Callable[[Path, Path], Any]:
    def make(here: Path, _: Path) -> None:
        (here / "run").mkdir()
        (here / "run" / "manifest.json").write_text('{"kind": "run"}')
        (here / "run" / "metrics.jsonl").write_text(metrics)

    return make


LAUGHS = "a0: &a0 {b: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 10)
)
TASKS = "augment arc --source p.parquet --out out"
VOTE = "vote p.parquet --challenges MINI/data/challenges.json --out out"
ZEROS = "\n" + '{"step": 0}\n' * 50_000
SUDOKU = "augment sudoku --source p.parquet --question colors --answer colors --out out"
MERGE = "merge s.csv --challenges MINI/data/challenges.json --out out"
SPLIT, ARROW = ": split it", "data: damaged dataset folder"
# A command (MINI is a finished quickstart), parts of its error, and functions that make its files.
ROWS: dict[str, Case] = {
    "JSON, deep": (CHECK, "c.json: not a JSON file (nested too deeply)", text("c.json", "[" * 10**6)),
    "JSON, infinite": (CHECK, "c.json: not a JSON file (1e400 is too large a", text("c.json", "[1e400]")),
    "JSON, NaN": (CHECK, "c.json: not a JSON file (NaN is no number", text("c.json", "[NaN]")),
    "JSON, a key twice": (CHECK, "the key 'a' stands more than once", text("c.json", '{"a": 1, "a": 2}')),
    "JSON, a device": (CHECK, "c.json: it is a device, no file", link("c.json", "/dev/zero")),
    "manifest, deep": (
        DATA, "nested more than 64 deep", dataset(holding("manifest.json", "[" * 900 + "]" * 900))
    ),
    "manifest, a key twice": (
        DATA, "the key 'a' stands more than once", dataset(holding("manifest.json", '{"a": 1, "a": 2}'))
    ),
    "manifest, a large integer": (
        DATA, "an integer of more than 64 bits", dataset(facts("manifest.json", counts=10**30))
    ),
    "manifest, another type": (
        DATA, "data: the recipe in its manifest.json is not one", dataset(facts("manifest.json", recipe=5))
    ),
    "TOML, a key of many parts": (
        "recipe show r.toml", "r.toml: not a TOML file (line 1 has more than 200 dots",
        text("r.toml", "a." * 60_000 + "a = 1"),
    ),
    "TOML, deep": ("recipe show r.toml", "(nested too deeply)", text("r.toml", "a = " + "[" * 60_000)),
    "TOML, nested": ("recipe show r.toml", "nested more than 64", text("r.toml", "a." * 100 + "a = 1")),
    "TOML, large": ("recipe show r.toml", "larger than 131 kB", text("r.toml", "# \n" * 60_000)),
    "TOML, a device": ("recipe show r.toml", "it is a device", link("r.toml", "/dev/zero")),
    "Parquet, rows": (VOTE, f"4,194,000 rows, a file of its size may|{SPLIT}", repeated(4_194_000)),
    "Parquet, a dictionary": (SUDOKU, f"2,000 MiB when unpacked|{SPLIT}", repeated(2000, colors="0" * 2**20)),
    "Parquet, a large grid": (VOTE, "row 1: 1048576 cells, expected 2", repeated(2000, cells=bytes(2**20))),
    "Parquet, texts as differences": (VOTE, "cannot be read (texts as differences)", encoded),
    "Parquet, a large footer": (
        VOTE, "its footer has 1.0 MB, too much", footer(b"\x19\xfc" + varint(250_000) + bytes(10**6))
    ),
    "Parquet, columns of nothing": (
        VOTE, "a row group has another number of columns",
        footer(b"\x19\x1c\x19\x1c\x26\x00\x00\x16\x00\x16\x00\x00"),
    ),
    "Parquet, no column": (VOTE, "no file of predictions, it lacks the column cells", footer()),
    "Parquet, many small files": (
        VOTE.replace(".parquet", ""), "p: holds 400,000 rows, a file of its size may hold", many_shards
    ),
    "Parquet, pages": (VOTE, f"MiB when unpacked|{SPLIT}", predictions(colors=["0" * 10**8])),
    "Parquet, a footer that lies": (VOTE, f"191 MiB when unpacked|{SPLIT}", lying),
    "Parquet, another type": (VOTE, "column steps is not of type int32", predictions(steps=["many"])),
    "Parquet, lists": (VOTE, "column steps is not of single values", predictions(steps=[[1] * 10**6])),
    "Parquet, cut": (VOTE, "p.parquet: not a whole Parquet file", data("p.parquet", b"PAR1" + bytes(10**6))),
    "Parquet, no height": (
        VOTE, "row 1: 0 x 5 cells, sides may be 1..64", predictions(height=[0], width=[5], cells=[b""])
    ),
    "Parquet, of a source": (
        SUDOKU, f"p.parquet: |MiB when unpacked|{SPLIT}", predictions(colors=["0" * 10**8]),
    ),
    "Parquet, cells of a task": (
        TASKS, f"p.parquet: |MiB when unpacked|{SPLIT}",
        of_tasks(input=lambda: cells(6 * 10**7), output=lambda: cells(1)),
    ),
    "Parquet, texts of tasks": (
        TASKS, f"p.parquet: |MiB when unpacked|{SPLIT}",
        of_tasks(pairs=lambda: pa.DictionaryArray.from_arrays(np.zeros(2000, np.int32), ["[" + " " * 2**20])),
    ),
    "Parquet, lists of one size": (
        TASKS, "column pairs is not of texts, numbers or lists",
        of_tasks(pairs=lambda: pa.array([[1, 2]], pa.list_(pa.int8(), 2))),
    ),
    "shards of two runs": (VOTE.replace(".parquet", ""), "its candidates are of other, those", of_two_runs),
    "JSON lines, a device": (
        "augment arc --source t.jsonl --out out", "t.jsonl: line 1: longer than 67.1 MB",
        link("t.jsonl", "/dev/zero"),
    ),
    "text, a device": ("augment maze --source m.txt --out out", "it is a device", link("m.txt", "/dev/zero")),
    "CSV, a device": (MERGE, "s.csv: it is a device", link("s.csv", "/dev/zero")),
    "CSV, a square": (
        MERGE, "line 2: expected output_id,output",
        text("s.csv", ",".join(map(str, range(20_000))) + "\n" + "a\n" * 50_000),
    ),
    "CSV, many columns": (
        SUDOKU.replace("parquet", "csv"), "more than 1000 columns", text("p.csv", "a," * 200_000 + "\n")
    ),
    "CSV, compressed": (
        SUDOKU.replace("parquet", "csv.gz"), "MB when unpacked, too much", squeezed("p.csv.gz", bytes(10**8))
    ),
    "zip, a large document": (
        "augment arc --source a.zip --out out", "MB or more when unpacked",
        zip_of(b"[" + b"[]," * 10**6 + b"1]"),
    ),
    "zip, a name": (ARCHIVE.replace("tar.gz", "zip"), "a.zip: not an archive that can be read (", latin_zip),
    "tar, a large header": (ARCHIVE, "a header of 50 MB", tar_of(tarfile.XHDTYPE, bytes(5 * 10**7))),
    "tar, digits": (ARCHIVE, "(a damaged header)", tar_of(tarfile.XHDTYPE, b"1" * 10**6)),
    "tar, records": (ARCHIVE, "(a damaged header)", tar_of(tarfile.XHDTYPE, b"2 " * 500_000 + b"=")),
    "tar, a value of digits": (
        ARCHIVE, "b.json: not a JSON file",
        tar_of(tarfile.XHDTYPE, b"1000000 comment=" + b"1" * (10**6 - 17) + b"\n"),
    ),
    "tar, sparse": (ARCHIVE, "(a sparse file)", tar_of(tarfile.GNUTYPE_SPARSE, b"")),
    "tar, sparse by a header": (
        ARCHIVE, "(a sparse file)",
        tar_of(tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"),
    ),
    "tar, backwards": (ARCHIVE, "(a size of -1024)", tar_of(tarfile.REGTYPE, b"", -1024)),
    "tar, another size": (ARCHIVE, "(another size in a header, 9)", tar_of(tarfile.XHDTYPE, b"9 size=9\n")),
    "tar, packed otherwise": (
        ARCHIVE, "a.tar.gz: not an archive that can be read",
        data("a.tar.gz", bz2.compress(bytes(10**6)) * 100),
    ),
    "tar, many members": (
        ARCHIVE, "MB or more when unpacked",
        squeezed("a.tar.gz", tarfile.TarInfo("b").tobuf() * 100_000 + bytes(1024)),
    ),
    "metrics, many names": ("report run --out out", "metrics by then, too many", run_of(names(20_000))),
    "metrics, a square": (
        "report run --out out", "metrics by then, too many",
        run_of(json.dumps({"step": 0} | dict.fromkeys(map(str, range(900)), 1)) + ZEROS),
    ),
    "recipe, many buckets": (
        "recipe show r.toml", "model.buckets: list should have at most 62 items",
        text("r.toml", "[model]\nbuckets = [" + "9, 8, " * 20_000 + "]"),
    ),
    "recipe, a large network": (
        "train r.toml --data MINI/data --out out", "model.hidden_size: input should be less than or equal",
        text("r.toml", "[model]\nhidden_size = 1_000_000_000"),
    ),
    "recipe, a large batch": (
        "train r.toml --data MINI/data --out out", "train.batch_size: input should be less than or equal",
        text("r.toml", "[train]\nbatch_size = 1_000_000_000"),
    ),
    "recipe, many keys": (
        "recipe show r.toml", "[infer]: 9980 problems more",
        text("r.toml", "[infer]\n" + "".join(f"k{number} = 1\n" for number in range(10_000))),
    ),
    "ledger, nested": (
        "submissions show aaaa --ledger l", "l: line 1 is no fact about a submission",
        text("l", '{"sha256": "aaaa", "fact": "file", "made_by": ' + '{"a":' * 300 + "1" + "}" * 301),
    ),
    "ledger, no scores": (
        "submissions list --ledger l", "l: line 1 is no fact about a submission",
        text("l", '{"sha256": "a", "fact": "score", "time": "now", "set": "s", "pass_at_2": 1}\n'),
    ),
    "Arrow, compressed": (TRAIN, f"{ARROW}|is compressed", dataset(arrow(packed))),
    "Arrow, cut": (
        TRAIN, ARROW, dataset(arrow(lambda file, content: file.write_bytes(content[: len(content) * 2 // 3])))
    ),
    "Arrow, elsewhere": (
        TRAIN, "names a file twice or one elsewhere",
        dataset(facts("puzzles/state.json", _data_files=[{"filename": "../../x.arrow"}])),
    ),
    "Arrow, nothing": (TRAIN, f"{ARROW}|of type null", dataset(puzzles(pa.nulls(10**9)))),
    "dataset, large shares": (
        TRAIN, "its shares are not of its tasks",
        dataset(facts("manifest.json", sampling={"shares": [["s", 2 * 10**9, 1.0]]})),
    ),
    "dataset, no variants": (
        TRAIN, "a number of its variants or of its sampling is none",
        dataset(facts("manifest.json", variants={"count": "many", "seed": 0})),
    ),
    "dataset, a large canvas": (TRAIN, "canvas 1000000", dataset(facts("manifest.json", canvas=10**6))),
    "dataset, no color": (
        TRAIN, "a cell is not 0..9",
        dataset(rebuilt(inputs=lambda grids: replace(grids, cells=grids.cells + np.uint8(10)))),
    ),
    "dataset, no task": (
        TRAIN, "the number of a task is not 0..",
        dataset(rebuilt(test_tasks=lambda tasks: tasks + np.int32(10**6))),
    ),
    "dataset, no augmentation": (
        TRAIN, "a dihedral is not 0..7",
        dataset(rebuilt(table=lambda rows: replace(rows, dihedrals=rows.dihedrals + np.uint8(8)))),
    ),
    "safetensors, a header of gigabytes": (
        INFER, "damaged checkpoint",
        checkpoint(holding("model.safetensors", struct.pack("<Q", 2**33) + b"{}")),
    ),
    "checkpoint, a large network": (INFER, "weights do not fit", checkpoint(config(expansion=1000))),
    "checkpoint, many layers": (INFER, "weights do not fit", checkpoint(config(num_layers=1000))),
    "checkpoint, without end": (INFER, "less than or equal to 1000", checkpoint(config(outer_cycles=10**9))),
    "checkpoint, a large canvas": (INFER, "on canvas 100000", checkpoint(facts("model.json", canvas=100000))),
    "checkpoint, many puzzles": (
        INFER, f"puzzles.parquet|rows, a file of its size may hold|{SPLIT}",
        checkpoint(lambda folder: repeated(10**6)(folder, folder).rename(folder / "puzzles.parquet")),
    ),
    "torch.save, compressed": (IMPORT, "its parts are compressed", zipped),
    "torch.save, a small storage": (
        IMPORT, "its tensors are larger than the file", official({"a": torch.zeros(1).expand(10**6, 10**6)})
    ),
    "torch.save, many sets": (IMPORT, "its data.pkl has more than 262 kB", pickled),
    "YAML, aliases": (IMPORT, "all_config.yaml: |it has an alias (*)", official(settings=LAUGHS)),
    "YAML, deep": (IMPORT, "(nested too deeply)", official(settings="arch: " + "[" * 30_000)),
    "YAML, large": (IMPORT, "larger than 0.0 MB", official(settings="- 1\n" * 30_000)),
    "link, of shards": (
        "infer --checkpoint MINI/run --data MINI/data --votes 3 --out predictions --resume",
        "predictions/shards: is a link that leads out of its folder", linked("predictions", "shards"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(mini: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Return the outcome of each command, run after all modules are loaded."""
    folders = [tmp_path_factory.mktemp("row") for _ in ROWS]
    for folder, (_, _, make) in zip(folders, ROWS.values(), strict=True):
        make(folder, mini.folder)
    commands = [command.replace("MINI", str(mini.folder)).split() for command, _, _ in ROWS.values()]
    outcomes = with_little_memory(list(zip(folders, commands, strict=True)), MODULES)
    return dict(zip(ROWS, outcomes, strict=True))


@pytest.mark.parametrize("name", ROWS)
def test_a_hostile_file_is_refused_with_little_memory(outcomes: dict[str, Outcome], name: str) -> None:
    says, done = ROWS[name][1], outcomes[name]
    assert (done.code, done.out) == (2, ""), done.err
    line = done.err.splitlines()[-1]
    assert [part for part in says.split("|") if part not in line] == [], line
    assert line.startswith("arcpipe: ")
    assert len(line) < 5000
    assert done.growth < MOST_GROWTH
    assert done.seconds < MOST_SECONDS


ACTING = ("=1+1", "+1", "@x", "-1", "../../escaped", "</script><img src=x>", "\x1b]0;t\x07", "$x^$")


def test_an_id_acts_nowhere(tmp_path: Path) -> None:
    """Safe on a terminal, in a spreadsheet, on the page, as a path and in a figure's formula."""
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    pair = {"input": [[1]], "output": [[1]]}
    tasks = {name: {"train": [pair], "test": [{"input": [[1]]}]} for name in ACTING}
    (here / "c_challenges.json").write_text(json.dumps(tasks))
    (here / "c_solutions.json").write_text(json.dumps({name: [[[1]]] for name in tasks}))
    pq.write_table(table([candidate([[1]], task=name) for name in tasks]), here / "p.parquet")
    run_of(names(2).replace("m1", "train/loss_answer"))(here, here)
    challenges, solutions = "--challenges c_challenges.json", "c_solutions.json"
    report = f"report run --predictions p.parquet --submission s.json --solutions {solutions} {challenges}"
    for command in (
        f"vote p.parquet {challenges} --out s.json", f"check s.json {challenges}",
        f"score s.json {solutions} --per-task t.csv", f"{report} --out r.html --figures figures",
        "submissions list",
    ):  # fmt: skip
        done = run_here(*command.split(), cwd=here, code=0)
        assert "\x1b" not in done.stdout + done.stderr
    rows = (here / "t.csv").read_text()
    assert "\n'=1+1,0," in rows
    assert "\n'+1,0," in rows
    page = (here / "r.html").read_text()
    assert "<img src=x>" not in page
    assert "\\u003cimg src=x>" in page
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]
