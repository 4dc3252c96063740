"""`arcpipe kaggle push`: credentials, the requests that it sends and does not repeat, and failures."""

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from arcpipe.runs import hold_folder, write_json
from files import changing, json_of
from kaggle_server import COMPETITION, KEY, TOKEN, USER, Failure, Fault, KaggleServer, Shell
from processes import running

FILES = ["arcpipe.whl", "trunk.safetensors", "wheels.zip"]
BY_TOKEN = {"KAGGLE_API_TOKEN": TOKEN}
BY_KEY, WRONG_KEY, TOKEN_KEY = ({"KAGGLE_USERNAME": USER, "KAGGLE_KEY": key} for key in (KEY, "wr0ng", TOKEN))
NO_WAY = BY_KEY | dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")


@pytest.fixture
def nobody(shell: Shell) -> Shell:
    """A shell without credentials."""
    env = {name: value for name, value in shell.env.items() if name not in BY_KEY}
    return Shell(shell.server, env)


@pytest.mark.parametrize(("credentials", "fault", "expected"), [
    ({}, None, "Kaggle knows no credentials of yours, or refuses them: make a token at"),
    (BY_TOKEN, Fault(), "logging in to Kaggle: Kaggle did not answer in time"),
    (BY_TOKEN, Fault(401, "Invalid"), "(401): the credentials are refused: make a new token"),
    (BY_TOKEN, Fault(404), "Kaggle knows no credentials of yours, or refuses them"),
    (WRONG_KEY, None, "Kaggle says Unauthenticated (401): the credentials are refused: make"),
    (NO_WAY, None, "its submissions: Kaggle cannot be reached: see whether kaggle.com works"),
    (TOKEN_KEY, None, "is an access token (KGAT_...), which is no key: set it as KAGGLE_API_TOKEN"),
], ids=["none", "silence", "401", "404", "wrong key", "no way", "token as key"])  # fmt: skip
def test_bad_credentials_are_one_line_without_them(
    nobody: Shell, server: KaggleServer, credentials: dict[str, str], fault: Fault | None, expected: str
) -> None:
    if fault is not None:
        server.faults["IntrospectToken"] = fault
    line = nobody.fail("scores", "--competition", COMPETITION, "--timeout-s", 0.5, **credentials)
    assert expected in line
    assert not any(secret in line for secret in (TOKEN, KEY, "wr0ng"))


def test_a_token_is_enough_and_sent_when_needed(nobody: Shell, server: KaggleServer, tmp_path: Path) -> None:
    """Run in a new process: importing the client could send the token too."""

    def scores(**env: str) -> CompletedProcess[str]:
        words = ("kaggle", "scores", "--competition", COMPETITION)
        with running(words, tmp_path, **nobody.env | env) as process:
            return process.finish()

    assert "no submissions" in scores(**BY_TOKEN).stdout
    assert server.count("IntrospectToken") == 1
    write_json(tmp_path / "home/.kaggle/kaggle.json", {"username": USER, "key": TOKEN})
    said = scores().stderr
    assert "\narcpipe: the key in kaggle.json or KAGGLE_KEY is an access token (KGAT_...)" in f"\n{said}"
    assert TOKEN not in said
    (tmp_path / "file").touch()
    elsewhere = scores(KAGGLE_CONFIG_DIR=str(tmp_path / "file" / "config"))
    assert "the kaggle package cannot be loaded (" in elsewhere.stderr


def test_what_is_sent_is_private_and_sent_once(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    assert "dataset someone/arcpipe-bundle version 1\n" in shell.succeed("push", bundle)
    assert server.last_request("CreateDataset")["isPrivate"] is True
    assert server.dataset_files == FILES
    assert server.uploads["trunk.safetensors"] == b"trunk.safetensors"
    assert json_of(bundle / "kaggle-record.json")["dataset"]["version"] == 1
    assert "kernel someone/arcpipe-entry version 2: " in shell.succeed("push", bundle)
    assert (server.count("CreateDataset"), server.count("CreateDatasetVersion")) == (1, 0)
    (bundle / "dataset/arcpipe.whl").write_bytes(b"another")
    assert "dataset someone/arcpipe-bundle version 2\n" in shell.succeed("push", bundle)
    assert server.uploads["arcpipe.whl"] == b"another"
    methods = [name for name, _ in server.calls]
    assert methods[methods.index("CreateDatasetVersion") :].count("GetDatasetStatus") == 2
    assert methods[-1] == "SaveKernel"


def test_a_kernel_waits_for_the_new_dataset(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    line = shell.fail("push", bundle, "--max-minutes", 0)
    assert "blobs_received at version 1 after 0 minutes: run the same command to go on waiting" in line
    assert server.count("SaveKernel") == 0
    shell.succeed("push", bundle)
    assert server.count("CreateDataset") == 1
    server.faults["GetDataset"] = {"currentVersionNumber": 1}
    (bundle / "dataset/arcpipe.whl").write_bytes(b"another")
    shell.fail("push", bundle, "--max-minutes", 0)
    assert "ready at version 1 after 0 minutes" in shell.fail("push", bundle, "--max-minutes", 0)
    assert server.count("SaveKernel") == 1


@pytest.mark.parametrize("status", ["FAILED", "DELETED"])
def test_a_failed_dataset_is_sent_anew(shell: Shell, server: KaggleServer, bundle: Path, status: str) -> None:
    server.faults["GetDatasetStatus"] = {"status": status}
    assert f"version 1: Kaggle says {status.lower()}: look at its page" in shell.fail("push", bundle)
    server.faults.clear()
    shell.succeed("push", bundle)
    assert server.count("SaveKernel") == 1


@pytest.mark.parametrize(("method", "failure", "expected"), [
    ("GetDatasetStatus", Fault(500, "oops"), "Kaggle says oops (500): run it again later"),
    ("GetDatasetStatus", Fault(429, "Too many"), "(429): too many requests: run it again in some"),
    ("GetDatasetStatus", Fault(), "did not answer in time: see whether kaggle.com works from here"),
    ("GetDatasetStatus", Fault(200), "what came is no JSON (Expecting value: "),
    ("StartBlobUpload", Fault(429, "Too many"), "(429): too many requests"),
    ("StartBlobUpload", Fault(), "did not answer in time"),
    ("PUT", Fault(), "its upload: Kaggle did not answer in time"),
    ("PUT", Fault(500), "Internal Server Error (500): run it again later; nothing was made"),
    ("CreateDataset", Fault(403, "Denied"), "Kaggle says Denied (403): check owner and spelling"),
    ("CreateDataset", Fault(400), "(400): mend it, and run it again; id or title may be in use, if only"),
    ("CreateDataset", Fault(), "making the dataset: Kaggle did not answer in time"),
    ("CreateDataset", {"status": "error", "error": "Title in use."}, "refused the dataset: Title in use"),
    ("SaveKernel", Fault(403, "Denied"), "Kaggle says Denied (403): check owner and spelling"),
    ("SaveKernel", Fault(500, "oops", done=True), "see someone/arcpipe-entry on kaggle.com first: it"),
    ("SaveKernel", Fault(done=True), "see someone/arcpipe-entry on kaggle.com first"),
    ("SaveKernel", {"invalidDatasetSources": ["a/lost"]}, "runs without its dataset_sources a/lost: Kag"),
    ("SaveKernel", {"invalidCompetitionSources": ["lost"]}, "without its competition_sources lost: Kag"),
    ("SaveKernel", {"invalidTags": ["trm"]}, "runs without its tags trm"),
    ("SaveKernel", {"ref": "/someone/other", "url": "x"}, "make id and title of its metadata agree"),
    ("SaveKernel", {"error": "Session limit.", "versionNumber": 0}, "Session limit: mend that, and push"),
], ids=lambda value: value if isinstance(value, str) else None)  # fmt: skip
def test_a_failure_of_kaggle_is_one_line_and_leaves_nothing_to_submit(
    shell: Shell, server: KaggleServer, bundle: Path, method: str, failure: Failure, expected: str
) -> None:
    if method == "SaveKernel":
        # An earlier version must not be submitted instead of the new one.
        shell.succeed("push", bundle)
    server.faults[method] = failure
    is_silent = isinstance(failure, Fault) and not failure.status
    assert expected in shell.fail("push", bundle, "--timeout-s", 0.5 if is_silent else 5)
    # Requests that change something are repeated only after status 429.
    assert server.count("CreateDataset") <= 1
    assert server.kernel_version <= 2
    assert "its kernel is not on Kaggle" in shell.fail("submit", bundle)


def test_kaggle_is_asked_again_where_that_is_safe(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    server.faults["GetDatasetStatus"] = Fault(502, "bad gateway", times=2)
    server.faults["StartBlobUpload"] = Fault(429, "slow down", times=1, headers={"Retry-After": "0"})
    server.faults["PUT"] = Fault(503, times=2)
    server.faults["CreateDataset"] = Fault(429, "slow down", times=1)
    server.faults["SaveKernel"] = Fault(429, "slow down", times=1)
    shell.succeed("push", bundle)
    assert (server.dataset_version, server.kernel_version) == (1, 1)
    assert server.dataset_files == FILES


KERNEL, DATASET = "kernel/kernel-metadata.json", "dataset/dataset-metadata.json"


@pytest.mark.parametrize(("file", "content", "expected"), [
    (KERNEL, {"enable_internet": True}, "enable_internet: write false"),
    (KERNEL, {"is_private": 1}, "is_private: expected true or false"),
    (KERNEL, {"id": "entry"}, "id: expected owner/name"),
    (KERNEL, {"id": "https://www.kaggle.com/code/someone/x"}, "write 'someone/x' only"),
    (KERNEL, {"id_no": 7}, "id_no: remove it, it would be pushed there and not to someone/arcpipe-entry"),
    (KERNEL, {"dataset_sources": ["datasets/a/b"]}, "dataset_sources: 'datasets/a/b': write 'a/b' only"),
    (KERNEL, {"model_sources": ["models/a/b/c/d/1"]}, "model_sources: 'models/a/b/c/d/1': write 'a/b/c"),
    (KERNEL, {"id": "Someone/arcpipe-entry"}, "Someone/arcpipe-entry: its owner is someone in your cred"),
    (DATASET, {"id": "datasets/someone/arcpipe-bundle"}, "id: 'datasets/someone/arcpipe-bundle': write"),
    (KERNEL, {"dataset_sources": []}, "add someone/arcpipe-bundle"),
    (KERNEL, {"dataset_sources": "x/y"}, "dataset_sources: expected a list"),
    (KERNEL, {"code_file": "lost.ipynb"}, "lost.ipynb: no such file"),
    (KERNEL, {"code_file": "lost.py"}, "Source file not found"),
    (KERNEL, {"machine_shape": 4}, "must be of type str"),
    (KERNEL, {"language": "Python"}, "valid language must be specified"),
    (KERNEL, "{", "kernel-metadata.json: not a JSON file"),
    (DATASET, {"title": "short"}, "title must be between 6 and 50"),
    (DATASET, "[]", "dataset-metadata.json: expected an object of fields"),
    ("dataset/empty.txt", "", "empty.txt: an empty file, which Kaggle does not take"),
    ("kaggle-record.json", '{"submissions": 3}', "submissions is broken: move the file away"),
])  # fmt: skip
def test_bad_input(
    shell: Shell, bundle: Path, file: str, content: dict[str, Any] | str, expected: str
) -> None:
    if isinstance(content, str):
        (bundle / file).write_text(content)
    else:
        with changing(bundle / file) as changed:
            changed |= content
    assert expected in shell.fail("push", bundle)


@pytest.mark.parametrize("part", ["dataset", "kernel"])
def test_a_link_is_not_sent(shell: Shell, bundle: Path, part: str) -> None:
    (bundle / part / "link").symlink_to(__file__)
    assert f"{part}/link: is a link, which is not sent" in shell.fail("push", bundle)


def test_what_is_no_bundle_is_one_line(shell: Shell, tmp_path: Path) -> None:
    assert "none: no bundle folder: see arcpipe kaggle bundle" in shell.fail("push", tmp_path / "none")
    assert "dataset-metadata.json: no such file" in shell.fail("push", tmp_path)
    assert not (tmp_path / "none").exists()


def test_only_one_command_sends_from_a_bundle(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    with hold_folder(bundle):
        assert "is writing to it: wait for its end" in shell.fail("push", bundle)
    assert not server.calls
