"""From a bundle folder to a score, when Kaggle does what it should."""

import hashlib
import json
from pathlib import Path

from commands import succeed
from kaggle_server import ANSWER, COMPETITION, KEY, KaggleServer, kaggle_server
from kaggle_shell import Shell


def test_the_whole_path_as_a_user_goes_it(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with kaggle_server() as server:
        env = server.environment(tmp_path / "home")
        pushed = succeed("kaggle", "push", bundle, cwd=tmp_path, env=env)
        url = "https://www.kaggle.com/code/someone/arcpipe-entry"
        assert f"kernel someone/arcpipe-entry version 1: {url}\n" in pushed
        ended = succeed("kaggle", "status", bundle, "--wait", "--out", "out", cwd=tmp_path, env=env)
        assert ended == "someone/arcpipe-entry version 1: COMPLETE\n"
        scored = succeed("kaggle", "submit", bundle, "--message", "first try", cwd=tmp_path, env=env)
        assert scored == f"{COMPETITION}: submission 1000 scored 31.39\n"
        listed = succeed("kaggle", "scores", "--competition", COMPETITION, cwd=tmp_path, env=env)
    assert "1000  2026-10-01T12:00:00" in listed
    assert "COMPLETE  31.39  [someone/arcpipe-entry version 1] " in listed
    assert "first try" in listed
    assert (tmp_path / "out/submission.json").read_bytes() == ANSWER
    assert (tmp_path / "out/kernel.log").read_text() == "solved 1\ndone\n"
    entries = json.loads(succeed("submissions", "list", "--json", cwd=tmp_path))
    digest = hashlib.sha256(ANSWER).hexdigest()
    assert [(entry["sha256"], entry["kaggle"][0]["score"]) for entry in entries] == [(digest, "31.39")]
    assert {key: entries[0]["kaggle"][0][key] for key in ("reference", "kernel_version", "competition")} == {
        "reference": 1000, "kernel_version": 1, "competition": COMPETITION,
    }  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_the_dataset_is_private_and_whole(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    shell.succeed("push", bundle)
    assert server.asked("CreateDataset")["isPrivate"] is True
    assert server.dataset_files == ["arcpipe.whl", "trunk.safetensors", "wheels.zip"]
    assert server.uploads["trunk.safetensors"] == b"trunk.safetensors"
    kernel = server.asked("SaveKernel")
    assert kernel["datasetDataSources"] == ["someone/arcpipe-bundle"]
    assert kernel["machineShape"] == "NvidiaL4"
    assert kernel["isPrivate"] is True
    assert not kernel.get("enableInternet")
