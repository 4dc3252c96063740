"""Credentials are the client's own: missing, refused, and a Kaggle that cannot be reached."""

from pathlib import Path

import pytest

from commands import fail, succeed
from kaggle_server import COMPETITION, TOKEN, Fault, KaggleServer
from kaggle_shell import Shell

SCORES = ("kaggle", "scores", "--competition", COMPETITION)


@pytest.fixture
def nobody(shell: Shell) -> dict[str, str]:
    """The variables without a name and a key."""
    return {name: value for name, value in shell.env.items() if name not in ("KAGGLE_USERNAME", "KAGGLE_KEY")}


def test_no_credentials(nobody: dict[str, str], server: KaggleServer, tmp_path: Path) -> None:
    line = fail(*SCORES, cwd=tmp_path, env=nobody)
    assert line.startswith("Kaggle knows no credentials of yours, or refuses them: make a token at")
    assert not server.calls


def test_a_token(nobody: dict[str, str], server: KaggleServer, tmp_path: Path) -> None:
    env = nobody | {"KAGGLE_API_TOKEN": TOKEN}
    assert "no submissions" in succeed(*SCORES, cwd=tmp_path, env=env)
    assert server.count("IntrospectToken") == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(), "logging in to Kaggle: Kaggle did not answer in time"),
        (Fault(401, "Invalid token"), "(401): the credentials are refused: make a new token"),
        (Fault(404, "Unknown token"), "Kaggle knows no credentials of yours, or refuses them"),
    ],
    ids=["silence", "401", "404"],
)
def test_a_token_that_cannot_be_checked(
    nobody: dict[str, str], server: KaggleServer, tmp_path: Path, fault: Fault, expected: str
) -> None:
    server.faults["IntrospectToken"] = fault
    env = nobody | {"KAGGLE_API_TOKEN": TOKEN, "ARCPIPE_KAGGLE_TIMEOUT_S": "0.5"}
    line = fail(*SCORES, cwd=tmp_path, env=env)
    assert expected in line
    assert TOKEN not in line


def test_a_refused_key(shell: Shell, bundle: Path) -> None:
    line = shell.fail("push", bundle, KAGGLE_KEY="wr0ng")
    assert "Kaggle says Unauthenticated (401): the credentials are refused: make a new token at" in line
    assert "wr0ng" not in line


def test_kaggle_cannot_be_reached(shell: Shell, tmp_path: Path) -> None:
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    line = shell.fail(*SCORES[1:], **nowhere)
    assert "its submissions: Kaggle cannot be reached: see whether kaggle.com works from here" in line


def test_a_home_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = shell.env | {"KAGGLE_CONFIG_DIR": str(tmp_path / "file" / "config")}
    assert "the kaggle package cannot be loaded (" in fail(*SCORES, cwd=tmp_path, env=env)
