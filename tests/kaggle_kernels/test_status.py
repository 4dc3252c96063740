"""`arcpipe kaggle status`: how a run stands, and what it left behind."""

import json
from pathlib import Path

import pytest

from kaggle_server import Fault, KaggleServer
from kaggle_shell import Shell


def test_a_run_that_goes_on(shell: Shell, bundle: Path, tmp_path: Path) -> None:
    shell.succeed("push", bundle)
    assert shell.succeed("status", bundle) == "someone/arcpipe-entry version 1: RUNNING\n"


def test_output_of_a_run_that_goes_on(shell: Shell, bundle: Path, tmp_path: Path) -> None:
    shell.succeed("push", bundle)
    line = shell.fail("status", bundle, "--out", tmp_path / "out")
    assert "RUNNING, it has no output yet: add --wait" in line
    assert not (tmp_path / "out").exists()


def test_the_version_that_was_pushed_is_asked_for(shell: Shell, server: KaggleServer, pushed: Path) -> None:
    server.kernel_version = 2
    assert "someone/arcpipe-entry version 1: Kaggle says Not found (404)" in shell.fail("status", pushed)


def test_all_files_come_with_their_hashes(
    shell: Shell, server: KaggleServer, pushed: Path, tmp_path: Path
) -> None:
    server.outputs |= {"log/run.txt": b"a", "more.txt": b"b", "predictions.parquet": b"c"}
    shell.succeed("status", pushed, "--out", tmp_path / "out")
    for name, content in server.outputs.items():
        assert (tmp_path / "out" / name).read_bytes() == content
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["files"].keys() == server.outputs.keys()
    assert "exists already" in shell.fail("status", pushed, "--out", tmp_path / "out")


@pytest.mark.parametrize("status", [404, 500, 0])
def test_an_output_that_does_not_come_leaves_nothing(
    shell: Shell, server: KaggleServer, pushed: Path, tmp_path: Path, status: int
) -> None:
    server.faults["GET"] = Fault(status)
    line = shell.fail("status", pushed, "--out", tmp_path / "out", ARCPIPE_KAGGLE_TIMEOUT_S="0.1")
    assert line.startswith("submission.json: its download: ")
    assert "localhost" not in line, "an address is signed"
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", ""])
def test_a_file_name_does_not_lead_outside(
    shell: Shell, server: KaggleServer, pushed: Path, tmp_path: Path, name: str
) -> None:
    server.outputs = {name: b"x"}
    assert "which is not fetched" in shell.fail("status", pushed, "--out", tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("status", ["ERROR", "CANCEL_ACKNOWLEDGED"])
def test_a_failed_run(shell: Shell, server: KaggleServer, bundle: Path, tmp_path: Path, status: str) -> None:
    shell.succeed("push", bundle)
    server.says["GetKernelSessionStatus"] = {"status": status, "failureMessage": "out of memory"}
    expected = f"version 1: {status} (out of memory): read its log (--out DIR fetches it), mend it, and"
    assert expected in shell.fail("status", bundle, "--wait")
    assert "out/kernel.log, mend it" in shell.fail("status", bundle, "--out", tmp_path / "out")
    assert (tmp_path / "out/kernel.log").read_text() == "solved 1\ndone\n"
    assert f"{status} (out of memory)" in shell.fail("submit", bundle)


def test_a_complete_run_without_its_file_has_failed(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.outputs = {"other.txt": b"x"}
    shell.succeed("push", bundle)
    assert "COMPLETE, but without submission.json: read its log" in shell.fail("status", bundle, "--wait")
    assert "COMPLETE, but without submission.json" in shell.fail("submit", bundle)
    assert server.count("CreateCodeSubmission") == 0


def test_a_status_that_the_client_does_not_know(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    shell.succeed("push", bundle)
    server.says["GetKernelSessionStatus"] = {"status": "DREAMING"}
    assert "Kaggle answers 'DREAMING', which its client does not know" in shell.fail("status", bundle)


def test_waiting_outlives_a_failing_moment(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    shell.succeed("push", bundle)
    server.faults["GetKernelSessionStatus"] = Fault(503, "busy", times=3)
    assert "COMPLETE" in shell.succeed("status", bundle, "--wait")


def test_nothing_was_pushed(shell: Shell, bundle: Path, server: KaggleServer) -> None:
    assert f"its kernel is not on Kaggle: arcpipe kaggle push {bundle}" in shell.fail("status", bundle)
    assert not server.calls
