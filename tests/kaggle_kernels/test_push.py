"""`arcpipe kaggle push`: what is sent, what is not sent again, and how it fails."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from arcpipe.kaggle_kernels.client.history import at_work
from kaggle_server import Fault, KaggleServer
from kaggle_shell import Shell, change_json

LIMIT = "Maximum batch GPU session count of 2 reached."


def not_pushed(shell: Shell, bundle: Path) -> bool:
    """Whether there is nothing to submit."""
    return "its kernel is not on Kaggle" in shell.fail("submit", bundle)


def test_the_same_dataset_is_sent_once(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    assert "dataset someone/arcpipe-bundle version 1\n" in shell.succeed("push", bundle)
    assert "kernel someone/arcpipe-entry version 2: " in shell.succeed("push", bundle)
    assert (server.count("CreateDataset"), server.count("CreateDatasetVersion")) == (1, 0)


def test_a_changed_dataset_is_its_next_version_and_is_waited_for(
    shell: Shell, server: KaggleServer, bundle: Path
) -> None:
    shell.succeed("push", bundle)
    (bundle / "dataset/arcpipe.whl").write_bytes(b"another")
    assert "dataset someone/arcpipe-bundle version 2\n" in shell.succeed("push", bundle)
    assert server.uploads["arcpipe.whl"] == b"another"
    methods = [name for name, _ in server.calls]
    assert methods[methods.index("CreateDatasetVersion") :].count("GetDatasetStatus") == 2
    assert methods[-1] == "SaveKernel"


def test_a_dataset_that_is_not_ready_in_time_holds_the_kernel_back(
    shell: Shell, server: KaggleServer, bundle: Path
) -> None:
    line = shell.fail("push", bundle, "--max-minutes", 0)
    assert "blobs_received at version 1 after 0 minutes: run the same command to go on waiting" in line
    assert server.count("SaveKernel") == 0
    shell.succeed("push", bundle)
    assert server.count("CreateDataset") == 1


def test_a_ready_older_version_is_not_taken_for_the_new_one(
    shell: Shell, server: KaggleServer, bundle: Path
) -> None:
    shell.succeed("push", bundle)
    server.says["GetDataset"] = {"currentVersionNumber": 1}
    (bundle / "dataset/arcpipe.whl").write_bytes(b"another")
    assert "ready at version 1 after" in shell.fail("push", bundle, "--max-minutes", 0.005)
    assert server.count("SaveKernel") == 1


@pytest.mark.parametrize("status", ["FAILED", "DELETED"])
def test_a_dataset_that_kaggle_gave_up_is_sent_anew(
    shell: Shell, server: KaggleServer, bundle: Path, status: str
) -> None:
    server.says["GetDatasetStatus"] = {"status": status}
    assert f"version 1: Kaggle says {status.lower()}: look at its page" in shell.fail("push", bundle)
    del server.says["GetDatasetStatus"]
    shell.succeed("push", bundle)
    assert server.count("SaveKernel") == 1


def test_a_failed_upload_makes_no_dataset(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.faults["PUT"] = Fault(500, "backend error")
    line = shell.fail("push", bundle)
    assert ": its upload: Kaggle says 500 Server Error: Internal Server Error (500): run it again" in line
    assert line.endswith("; nothing was made")
    assert server.count("CreateDataset") + server.count("SaveKernel") == 0


@pytest.mark.parametrize("status", [500, 503])
def test_an_upload_that_failed_once_is_repeated(
    shell: Shell, server: KaggleServer, bundle: Path, status: int
) -> None:
    server.faults["PUT"] = Fault(status, times=1)
    shell.succeed("push", bundle)
    assert server.dataset_files == ["arcpipe.whl", "trunk.safetensors", "wheels.zip"]
    assert server.count("CreateDataset") == 1


def test_a_refused_dataset(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.says["CreateDataset"] = {"status": "error", "error": "The requested title is already in use."}
    assert "refused the dataset: The requested title is already in use" in shell.fail("push", bundle)
    assert server.count("SaveKernel") == 0


def test_a_refused_kernel_leaves_nothing_to_submit(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    shell.succeed("push", bundle)
    server.says["SaveKernel"] = {"error": LIMIT, "versionNumber": 0}
    assert f"refused the kernel: {LIMIT[:-1]}: mend that, and push again" in shell.fail("push", bundle)
    assert not_pushed(shell, bundle)


@pytest.mark.parametrize("kind", ["Dataset", "Competition", "Kernel", "Model"])
def test_a_kernel_without_its_sources_is_no_success(
    shell: Shell, server: KaggleServer, bundle: Path, kind: str
) -> None:
    server.says["SaveKernel"] = {f"invalid{kind}Sources": ["someone/lost"]}
    line = shell.fail("push", bundle)
    assert f"version 1 runs without its {kind.lower()}_sources someone/lost: Kaggle does not know" in line
    assert not_pushed(shell, bundle)


def test_an_unknown_tag_is_no_success(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.says["SaveKernel"] = {"invalidTags": ["trm"]}
    assert "runs without its tags trm" in shell.fail("push", bundle)


def test_a_kernel_under_another_name(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.says["SaveKernel"] = {"ref": "/someone/other", "url": "https://www.kaggle.com/code/someone/other"}
    assert "make id and title of its metadata agree" in shell.fail("push", bundle)


@pytest.mark.parametrize("fault", [Fault(500, "oops", done=True), Fault(done=True)], ids=["500", "silence"])
def test_a_kernel_push_with_an_unknown_end_is_not_repeated(
    shell: Shell, server: KaggleServer, bundle: Path, fault: Fault
) -> None:
    server.faults["SaveKernel"] = fault
    line = shell.fail("push", bundle, ARCPIPE_KAGGLE_TIMEOUT_S="0.2")
    assert "see someone/arcpipe-entry on kaggle.com first: it may be there" in line
    assert server.count("SaveKernel") == 1
    assert not_pushed(shell, bundle)


@pytest.mark.parametrize(
    ("method", "fault", "expected"),
    [
        ("GetDatasetStatus", Fault(500, "oops"), "Kaggle says oops (500): run it again later"),
        ("GetDatasetStatus", Fault(429, "Too many"), "(429): too many requests: run it again in some"),
        ("GetDatasetStatus", Fault(), "did not answer in time: see whether kaggle.com works from here"),
        ("StartBlobUpload", Fault(429, "Too many"), "(429): too many requests"),
        ("StartBlobUpload", Fault(), "did not answer in time"),
        ("PUT", Fault(), "its upload: Kaggle did not answer in time"),
        ("CreateDataset", Fault(403, "Denied"), "Kaggle says Denied (403): check owner and spelling"),
        ("CreateDataset", Fault(), "making the dataset: Kaggle did not answer in time"),
        ("GetDatasetStatus", Fault(200), "what came is no JSON (Expecting value: "),
        ("SaveKernel", Fault(403, "Denied"), "Kaggle says Denied (403): check owner and spelling"),
        ("SaveKernel", Fault(429, "Too many"), "(429): too many requests"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_a_failure_of_kaggle_is_one_line(
    shell: Shell, server: KaggleServer, bundle: Path, method: str, fault: Fault, expected: str
) -> None:
    server.faults[method] = fault
    assert expected in shell.fail("push", bundle, ARCPIPE_KAGGLE_TIMEOUT_S="0.15")
    assert server.count("CreateDataset") <= 1
    assert not server.kernel_version


def test_kaggle_is_asked_again_where_that_is_safe(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.faults["GetDatasetStatus"] = Fault(502, "bad gateway", times=2)
    server.faults["StartBlobUpload"] = Fault(429, "slow down", times=1, headers={"Retry-After": "0"})
    server.faults["CreateDataset"] = Fault(429, "slow down", times=1)
    server.faults["SaveKernel"] = Fault(429, "slow down", times=1)
    shell.succeed("push", bundle)
    assert (server.dataset_version, server.kernel_version) == (1, 1)


@pytest.mark.parametrize(
    ("file", "field", "value", "expected"),
    [
        ("kernel/kernel-metadata.json", "enable_internet", None, "enable_internet: write false"),
        ("kernel/kernel-metadata.json", "enable_internet", True, "enable_internet: write false"),
        ("kernel/kernel-metadata.json", "is_private", 1, "is_private: expected true or false"),
        ("kernel/kernel-metadata.json", "id", "entry", "id: expected owner/name"),
        ("kernel/kernel-metadata.json", "dataset_sources", [], "add someone/arcpipe-bundle"),
        ("kernel/kernel-metadata.json", "dataset_sources", "x/y", "dataset_sources: expected a list"),
        ("kernel/kernel-metadata.json", "code_file", "lost.ipynb", "lost.ipynb: cannot be read"),
        ("kernel/kernel-metadata.json", "code_file", "lost.py", "Source file not found"),
        ("kernel/kernel-metadata.json", "machine_shape", 4, "must be of type str"),
        ("kernel/kernel-metadata.json", "language", "Python", "valid language must be specified"),
        ("dataset/dataset-metadata.json", "id", 3, "id: expected owner/name"),
        ("dataset/dataset-metadata.json", "title", "short", "title must be between 6 and 50"),
    ],
)  # fmt: skip
def test_wrong_metadata(
    shell: Shell, bundle: Path, file: str, field: str, value: object, expected: str
) -> None:
    change_json(bundle / file, **{field: value})
    if value is None:
        content = json.loads((bundle / file).read_text())
        del content[field]
        (bundle / file).write_text(json.dumps(content))
    assert expected in shell.fail("push", bundle)


def test_what_is_no_bundle(shell: Shell, bundle: Path, tmp_path: Path) -> None:
    assert "no bundle folder (No such file or directory)" in shell.fail("push", tmp_path / "none")
    assert "is this a bundle folder?" in shell.fail("push", tmp_path)
    (bundle / "dataset/empty.txt").touch()
    assert "empty.txt: an empty file, which Kaggle does not take" in shell.fail("push", bundle)
    (bundle / "kernel/kernel-metadata.json").write_text("{")
    assert "kernel-metadata.json: no JSON" in shell.fail("push", bundle)


def test_a_broken_record_is_not_written_over(shell: Shell, bundle: Path) -> None:
    (bundle / "kaggle-record.json").write_text('{"submissions": 3}')
    line = shell.fail("push", bundle)
    assert "kaggle-record.json: submissions is broken: move the file away" in line


def test_only_one_command_sends_from_a_bundle(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    descriptor = os.open(bundle, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert "another command sends from it" in shell.fail("push", bundle)
    finally:
        os.close(descriptor)
    assert not server.calls


def test_what_blocks_inside_is_not_another_command(bundle: Path) -> None:
    with pytest.raises(BlockingIOError), at_work(bundle):
        raise BlockingIOError
    with at_work(bundle):
        pass
