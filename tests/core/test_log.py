import json
from pathlib import Path

import pytest

from arcpipe.log import MetricsFile, is_first_rank


def test_metrics_are_on_disk_after_each_record_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for start in (0, 2):
        metrics = MetricsFile(path)
        for step in (start, start + 1):
            metrics.write({"step": step, "loss": 0.5})
            assert json.loads(path.read_text().splitlines()[-1]) == {"step": step, "loss": 0.5}
        metrics.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]


@pytest.mark.parametrize(("rank", "first"), [(None, True), ("0", True), ("1", False)])
def test_a_lone_process_and_rank_0_come_first(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, first: bool
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_first_rank() == first
