"""Parquet files within bounds: honest ones of any writer are read, and the bounds are the user's to move."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arcpipe.documents import LIMITS, load_json, parse_toml
from arcpipe.errors import ArcpipeError, DataError
from arcpipe.tables import read_table

BOUNDS: dict[str, Any] = {"most_rows": 2**30, "most_bytes": 2**40}
NAMES = ["text", "number", "share", "none", "flag", "word"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize(
    "extra", [{}, {"use_dictionary": False, "write_page_checksum": True, "row_group_size": 700}]
)
def test_all_that_is_written(tmp_path: Path, version: str, compression: str, extra: dict[str, Any]) -> None:
    generator, count = np.random.default_rng(0), 2000
    boards = ["".join(map(str, row)) for row in generator.integers(0, 10, (count, 81))]
    written = pa.table({
        "text": boards, "number": generator.integers(0, 9, count), "share": generator.random(count),
        "none": pa.nulls(count, pa.string()), "flag": generator.random(count) < 0.5,
        "word": pa.array(["x", "y"] * (count // 2)).dictionary_encode(), "list": [[1, 2]] * count,
    })  # fmt: skip
    file = tmp_path / "t.parquet"
    pq.write_table(written, file, data_page_version=version, compression=compression, **extra)
    read = read_table(file, NAMES, **BOUNDS)
    for name in NAMES:
        assert read[name].to_pylist() == written[name].to_pylist()
    pq.write_table(written.slice(0, 0), file)
    assert len(read_table(file, NAMES, **BOUNDS)) == 0


def test_the_bounds_are_the_users_to_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, recipe = tmp_path / "t.parquet", "# \n" * 60_000
    pq.write_table(pa.table({"number": np.zeros(600_000, np.int8)}), file)
    with pytest.raises(DataError, match=r"holds 600,000 rows, .* may hold up to 26\d,\d{3}: split"):
        read_table(file, ["number"], **BOUNDS)
    with pytest.raises(ValueError, match="larger than 131 kB"):
        parse_toml(recipe)
    monkeypatch.setenv(LIMITS, "2.5")
    assert len(read_table(file, ["number"], **BOUNDS)) == 600_000
    assert parse_toml(recipe) == {}
    monkeypatch.setenv(LIMITS, "many")
    with pytest.raises(ArcpipeError, match="ARCPIPE_LIMITS='many': expected a factor, such as 4"):
        load_json(file)
