"""Tables: the same columns from every form, and what is said of a broken one."""

import socket
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arcpipe.augment.tables import read_columns, read_lines
from arcpipe.errors import DataError

WANTED = ("question", "answer")


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def codes(*strings: str) -> list[list[int]]:
    return [list(string.encode()) for string in strings]


@pytest.mark.parametrize("form", ["csv", "parquet", "parquet, large strings"])
def test_columns_of_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"table.{form.split(',')[0]}"
    columns = {"rating": [3, 1], "question": [" #.", "0 1"], "answer": ["00123", "NULL "]}
    if form == "csv":
        rows = zip(*columns.values(), strict=True)
        write(path, "\ufeff" + "\n".join(",".join(map(str, row)) for row in (columns, *rows)))
    else:
        text = pa.large_string() if "large" in form else pa.string()
        schema = pa.schema({"rating": pa.int64(), "question": text, "answer": text})
        pq.write_table(pa.table(columns, schema=schema), path, row_group_size=1)
    table = read_columns(str(path), "train", WANTED, ("rating", "source"))
    assert (table.name, table.files) == (str(path), (path,))
    assert table.characters("question").dtype == np.uint8
    assert table.characters("question").tolist() == codes(*columns["question"])
    assert table.characters("answer", 5).tolist() == codes(*columns["answer"])
    assert table.columns["rating"].to_pylist() == [3, 1]
    assert table.columns["source"] is None


def test_blocks_of_a_large_file_come_in_order(tmp_path: Path) -> None:
    # Larger than the blocks of about one megabyte in which such a file is read.
    strings = [f"{number:0100d}" for number in range(30_000)]
    path = write(tmp_path / "large.csv", "question\n" + "\n".join(strings))
    read = read_columns(path, "train", ["question"]).characters("question")
    assert b"".join(row.tobytes() for row in read) == "".join(strings).encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not a CSV file that can be read (Empty CSV file)"),
        ("question,answer\n", "no rows"),
        ("q,answer\n1,2\n", "no column 'question'; its columns are: q, answer"),
        ("a,b\n1,2\n", "no column 'question', 'answer'; its columns are: a, b"),
        ("question,answer,answer\n1,2,3\n", "two columns are called 'answer', rename one"),
        ("question,answer\n1,2\n1,2,3\n1\n", "row 2: 3 fields where the header has 2"),
        (b"question,answer\n\xff\xfe,2\n", "not a CSV file that can be read (In CSV column #0"),
    ],
)
def test_broken_csv_files_are_named(tmp_path: Path, content: str | bytes, expected: str) -> None:
    path = write(tmp_path / "table.csv", content)
    with pytest.raises(DataError) as caught:
        read_columns(path, "train", WANTED)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("questions", "length", "expected"),
    [
        (["123", "1234"], None, "row 2: question has 4 characters, 3 in row 1"),
        (["123", "123", ""], None, "row 3: question has 0 characters, 3 in row 1"),
        (["123", None], None, "row 2: question has 0 characters, 3 in row 1"),
        (["123", "123"], 4, "row 1: question has 3 characters, expected 4"),
        (["123", "12\u00e9"], None, "row 2: question holds '\\xe9', which no puzzle does"),
    ],
)
def test_strings_that_do_not_fit_are_named(
    tmp_path: Path, questions: list[str | None], length: int | None, expected: str
) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"question": questions}), path)
    with pytest.raises(DataError) as caught:
        read_columns(str(path), "train", ["question"]).characters("question", length)
    assert str(caught.value) == f"{path}: {expected}"


def test_what_is_no_table_says_so(tmp_path: Path) -> None:
    lists = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"question": [[1], [2]]}), lists)
    for spec, expected in {
        str(tmp_path / "missing.csv"): "missing.csv: no such file; a source is",
        "some/missing.parquet": "some/missing.parquet: no such file; a source is",
        "missing": "missing: no such file; a source is",
        "hub:missing": "hub:missing: no such file; a source is",
        str(tmp_path): f"{tmp_path}: a folder; a source is",
        write(tmp_path / "table.json", "{}"): "table.json: not a table; a source is",
        write(tmp_path / "table.parquet", "no"): "table.parquet: not a Parquet file that can be read",
        str(lists): "lists.parquet: column 'question' holds no text",
    }.items():
        with pytest.raises(DataError) as caught:
            read_columns(spec, "train", ["question"])
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["owner/puzzles", "hub:owner/puzzles"])
def test_without_a_network_the_alternatives_are_named(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        # Bound but not listening: whatever connects there is refused.
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", endpoint)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DataError) as caught:
            read_columns(spec, "train", WANTED)
    assert str(caught.value).startswith(
        "owner/puzzles: no such file, and the Hugging Face hub cannot be reached"
    )
    assert "name a .csv or .parquet file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` takes a folder of that name for the set.
    for split, strings in (("train", ("S G", "G S")), ("test", ("#SG", "SG#"))):
        write(tmp_path / "owner/puzzles" / f"{split}.csv", "question,rating\n{},1\n{},2\n".format(*strings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = read_columns("hub:owner/puzzles", "test", ["question"], ("rating", "source"))
    assert table.characters("question").tolist() == codes("#SG", "SG#")
    assert table.columns["rating"].to_pylist() == [1, 2]
    assert table.columns["source"] is None
    assert table.name == "owner/puzzles, test"
    assert [path.suffix for path in table.files] == [".arrow"]
    assert all(path.exists() for path in table.files)
    for split, column, expected in (
        ("validation", "question", "owner/puzzles: validation cannot be read from the Hugging Face hub"),
        ("train", "answer", "owner/puzzles, train: no column 'answer'; its columns are: question, rating"),
    ):
        with pytest.raises(DataError) as caught:
            read_columns("hub:owner/puzzles", split, [column])
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)


def test_lines_of_text_files(tmp_path: Path) -> None:
    path = tmp_path / "mazes.txt"
    path.write_bytes(b"\xef\xbb\xbf# # \r\n\n  \n")
    assert read_lines(path) == ["# # ", "", "  "]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"mazes\.txt: not a text file in UTF-8"):
        read_lines(path)
    with pytest.raises(DataError, match=r"missing\.txt: no such file"):
        read_lines(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path)
