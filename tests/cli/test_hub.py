"""`arcpipe checkpoint import hf:...`: from a hub to a checkpoint folder, and all that can be in the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from arcpipe.checkpoint import load_checkpoint
from arcpipe.recipe import recipe_names
from arcpipe.runs import file_hash, read_manifest
from commands import run_here, succeed_here
from hub_server import COMMIT, Hub, hub_server
from reference import OfficialFiles, read_recording, write_official_files

REPO = "owner/model"
NAME = f"hf:{REPO}/part/step_1234"


@pytest.fixture
def files(fixtures_dir: Path, tmp_path: Path) -> OfficialFiles:
    return write_official_files(tmp_path / "official", read_recording(fixtures_dir, "i_attn_rope").arrays)


@pytest.fixture
def hub(files: OfficialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has the files, which the client is told of, and an empty cache."""
    with hub_server() as server:
        server.files = {f"{REPO}/part/{path.name}": path.read_bytes() for path in files.folder.iterdir()}
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE",
            server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )  # fmt: skip
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def refused(tmp_path: Path, name: str = NAME) -> str:
    """The last line of an import that must be refused; it makes nothing."""
    done = run_here("checkpoint", "import", name, "--canvas", 6, "--out", tmp_path / "not")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert not (tmp_path / "not").exists()
    return done.stderr.rstrip("\n").rpartition("\n")[2].removeprefix("arcpipe: ")


def test_a_file_is_imported_with_what_lies_beside_it(
    hub: Hub, files: OfficialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from the cache, where there is no network any more."""
    words = ("checkpoint", "import", NAME, "--canvas", 6, "--out")
    assert "10 puzzle rows" in succeed_here(*words, tmp_path / "own")
    source = read_manifest(tmp_path / "own", "checkpoint")["source"]
    assert source["sha256"] == file_hash(files.file)
    assert (source["repository"], source["revision"], source["path"]) == (REPO, COMMIT, "part/step_1234")
    assert load_checkpoint(tmp_path / "own").manifest["step"] == 1234
    downloads = len(hub.ranges)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    succeed_here(*words, tmp_path / "again")
    assert len(hub.ranges) == downloads == 3
    assert refused(tmp_path, f"hf:{REPO}/step_1").endswith("and import the file by its path")


def test_a_download_that_broke_goes_on_where_it_ended(
    hub: Hub, files: OfficialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the client writes at once.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut = 10_000
    assert "cannot be downloaded (" in refused(tmp_path)
    hub.refusals.clear()
    succeed_here("checkpoint", "import", NAME, "--canvas", 6, "--out", tmp_path / "own")
    assert read_manifest(tmp_path / "own", "checkpoint")["source"]["sha256"] == file_hash(files.file)
    assert hub.ranges[0] == ""
    assert hub.ranges[1].startswith("bytes=10000-")


@pytest.mark.parametrize(
    ("refusal", "name", "says"),
    [
        (
            None,
            f"hf:{REPO}/part/step_1",
            f"{REPO} has no file part/step_1: see https://huggingface.co/{REPO}",
        ),
        ((401, "RepoNotFound"), NAME, f"there is no repository {REPO}, or it is private"),
        ((404, "RevisionNotFound"), f"hf:{REPO}@v9/part/step_1234", f"{REPO} has no revision v9"),
        ((403, "GatedRepo"), NAME, f"is gated: accept its terms on https://huggingface.co/{REPO}"),
        ((503, ""), NAME, "cannot be downloaded ("),
        (None, f"hf:{REPO}", "expected hf:OWNER/NAME/PATH"),
        (None, f"hf:owner/-bad-/{NAME}", "Repo id must"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_line(
    hub: Hub, tmp_path: Path, refusal: tuple[int, str] | None, name: str, says: str
) -> None:
    if refusal:
        hub.refusals[REPO] = refusal
    said = refused(tmp_path, name)
    assert said.startswith(f"{name}: ")
    assert says in said


def test_a_file_with_another_hash_is_refused_and_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.lie = True
    assert "its SHA-256 is not the one that the hub says" in refused(tmp_path)
    hub.lie = False
    succeed_here("checkpoint", "import", NAME, "--canvas", 6, "--out", tmp_path / "own")


def test_a_recipe_says_what_the_files_do_not(hub: Hub, tmp_path: Path) -> None:
    del hub.files[f"{REPO}/part/all_config.yaml"]
    assert "its tensors do not tell outer_cycles" in refused(tmp_path)
    (tmp_path / "known.toml").write_text(
        "[model]\nouter_cycles = 2\ninner_cycles = 2\nmax_steps = 3\nnum_heads = 2\nexpansion = 1.0\n"
        'positions = "rope"\npuzzle_tokens = 4\n'
    )
    words = ("--canvas", 6, "--recipe", tmp_path / "known.toml", "--out", tmp_path / "own")
    succeed_here("checkpoint", "import", NAME, *words)
    assert load_checkpoint(tmp_path / "own").config.inner_cycles == 2


def test_the_list_names_what_an_import_needs() -> None:
    lines = succeed_here("checkpoint", "import", "--list").splitlines()
    assert len(lines) > 10
    recipes = [line.partition("--recipe ")[2] for line in lines if "--recipe" in line]
    assert recipes
    assert set(recipes) <= set(recipe_names())
