"""Published checkpoints: downloads from the hub; identifiers that are rebuilt and proven."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from arcpipe.augment.build import puzzle_set_of, write_puzzle_set
from arcpipe.augment.identifiers import rebuild_identifiers
from arcpipe.augment.sources import read_source
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.official import identifiers_of
from arcpipe.recipe import recipe_names, to_toml
from arcpipe.runs import file_hash, make_manifest
from commands import fail_here, run_here, succeed_here
from kaggle_server import serving
from puzzles import made_up_tasks, write_source
from reference import OfficialFiles

REPO = "owner/model"
NAME = f"hf:{REPO}/part/step_1234"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PATH = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Hub:
    """The files of an imitated hub, and its failures.

    files: by OWNER/NAME/PATH.
    refusals: the status and the code of the error, by OWNER/NAME.
    cut: after so many bytes of an answer break the connection, and be out of order from then on.
    lie: claim another SHA-256.
    ranges: what was asked for, of each download.
    """

    files: dict[str, bytes]
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: int = 0
    lie: bool = False
    ranges: list[str] = field(default_factory=list)


@pytest.fixture
def hub(files: OfficialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An imitated hub with the files, which the client uses, and an empty cache."""
    hub = Hub({f"{REPO}/part/{path.name}": path.read_bytes() for path in files.folder.iterdir()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def do_GET(self) -> None:
            match = _PATH.fullmatch(self.path)
            assert match, self.path
            content = hub.files.get(f"{match['repo']}/{match['file']}")
            status, code = hub.refusals.get(match["repo"], (404, "EntryNotFound"))
            if content is None or match["repo"] in hub.refusals:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
            digest = hashlib.sha256(b"other" if hub.lie else content).hexdigest()
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            hub.ranges.append(asked)
            if hub.cut:
                self.wfile.write(content[start : start + hub.cut])
                hub.cut, self.close_connection = 0, True
                hub.refusals[match["repo"]] = 503, ""
                return
            self.wfile.write(content[start:])

        do_HEAD = do_GET

    with serving(Handler) as port:
        endpoint = f"http://127.0.0.1:{port}"
        pages = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pages)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def imported(folder: Path, *flags: object) -> Checkpoint:
    """Import the file of the hub to a folder; return the checkpoint."""
    said = succeed_here("checkpoint", "import", NAME, "--canvas", 6, "--out", folder, *flags)
    assert "10 puzzle rows" in said
    return load_checkpoint(folder)


def refused(tmp_path: Path, name: str = NAME) -> str:
    """Run an import that must fail and write nothing; return its last line."""
    said = fail_here("checkpoint", "import", name, "--canvas", 6, "--out", tmp_path / "not", logs=True)
    assert not (tmp_path / "not").exists()
    return said


def test_a_file_is_imported_with_what_lies_beside_it(
    hub: Hub, files: OfficialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from the cache, after the network is gone."""
    manifest = imported(tmp_path / "own").manifest
    at = {"repository": REPO, "revision": COMMIT, "path": "part/step_1234", "sha256": file_hash(files.file)}
    assert manifest["source"].items() >= at.items()
    assert manifest["step"] == 1234
    downloads = len(hub.ranges)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    imported(tmp_path / "again")
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
    assert imported(tmp_path / "own").manifest["source"]["sha256"] == file_hash(files.file)
    assert hub.ranges[0] == ""
    assert hub.ranges[1].startswith("bytes=10000-")


@pytest.mark.parametrize(("refusal", "name", "says"), [
    (None, f"hf:{REPO}/part/step_1", f"{REPO} has no file part/step_1: see https://huggingface.co/{REPO}"),
    ((401, "RepoNotFound"), NAME, f"there is no repository {REPO}, or it is private"),
    ((404, "RevisionNotFound"), f"hf:{REPO}@v9/part/step_1234", f"{REPO} has no revision v9"),
    ((403, "GatedRepo"), NAME, f"is gated: accept its terms on https://huggingface.co/{REPO}"),
    ((503, ""), NAME, "cannot be downloaded ("),
    (None, f"hf:{REPO}", "expected hf:OWNER/NAME/PATH"),
    (None, f"hf:owner/-bad-/{NAME}", "Repo id must"),
])  # fmt: skip
def test_a_refusal(hub: Hub, tmp_path: Path, refusal: tuple[int, str] | None, name: str, says: str) -> None:
    if refusal:
        hub.refusals[REPO] = refusal
    said = refused(tmp_path, name)
    assert said.startswith(f"{name}: ")
    assert says in said


def test_a_file_with_another_hash_is_refused_and_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.lie = True
    assert "its SHA-256 is not the one that the hub says" in refused(tmp_path)
    hub.lie = False
    imported(tmp_path / "own")


def test_a_recipe_says_what_the_files_do_not(hub: Hub, tmp_path: Path) -> None:
    del hub.files[f"{REPO}/part/all_config.yaml"]
    assert "its tensors do not tell outer_cycles" in refused(tmp_path)
    (tmp_path / "known.toml").write_text(
        "[model]\nouter_cycles = 2\ninner_cycles = 2\nmax_steps = 3\nnum_heads = 2\nexpansion = 1.0\n"
        'positions = "rope"\npuzzle_tokens = 4\n'
    )
    assert imported(tmp_path / "own", "--recipe", tmp_path / "known.toml").config.inner_cycles == 2


def test_the_list_names_what_an_import_needs() -> None:
    lines = succeed_here("checkpoint", "import", "--list").splitlines()
    assert len(lines) > 10
    recipes = {line.partition("--recipe ")[2] for line in lines if "--recipe" in line}
    assert set() < recipes <= set(recipe_names())


NUM_AUG = 3
RECIPE: dict[str, dict[str, Any]] = {
    "model": {
        "hidden_size": 48, "num_heads": 2, "num_layers": 1, "expansion": 2.0, "outer_cycles": 1,
        "inner_cycles": 1, "max_steps": 1, "puzzle_size": 48, "puzzle_tokens": 1,
    },
    "train": {
        "steps": 250, "batch_size": 32, "optimizer": "muon", "muon_lr": 0.02, "lr": 5e-3, "puzzle_lr": 0.05,
        "loss": "softmax", "warmup_steps": 10, "min_lr_ratio": 0.05, "ema": 0.9, "placement": False,
        "precision": "float32", "checkpoint_every": 1000,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A published file of tensors with its configuration, and its training data."""

    file: Path
    source: str
    data: Path
    run: Path

    def flags(self, *more: object) -> tuple[object, ...]:
        """Return the arguments of an import that rebuilds the identifiers."""
        rebuild = ("--rebuild-identifiers", "sources", "--source", self.source, "--num-aug", NUM_AUG)
        return ("checkpoint", "import", self.file, "--canvas", 3, *rebuild, *more)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A network that knows all demonstrations of four tasks, its rows in the order of the reference."""
    folder = tmp_path_factory.mktemp("published")
    source = read_source(write_source(folder, "few", made_up_tasks(4, max_side=3)))
    puzzles = rebuild_identifiers([source], 42, NUM_AUG)
    numbers = {name: number for number, name in enumerate(puzzles.task_ids)}
    rows = [puzzles.of_task(numbers[task.id]) for task in source.tasks]
    groups = [(puzzles.dihedrals[of_task], puzzles.colors[of_task]) for of_task in rows]
    data = puzzle_set_of(source.tasks, [], groups, 3)
    write_puzzle_set(folder / "data", data, make_manifest("dataset"))
    (folder / "recipe.toml").write_text(to_toml(RECIPE))
    succeed_here("train", "recipe.toml", "--data", "data", "--out", "run", cwd=folder)
    succeed_here("checkpoint", "export", "run", "--out", "official", cwd=folder)
    (file,) = (folder / "official").glob("step_*")
    names = folder / "official" / "identifiers.json"
    state = torch.load(file, weights_only=True)
    (table,) = [name for name in state if name.endswith("puzzle_emb.weights")]
    places = {name: place for place, name in enumerate(json.loads(names.read_bytes()))}
    order = [places[name] for name in identifiers_of(puzzles)]
    assert order != sorted(order)
    torch.save(state | {table: state[table][order].clone()}, file)
    names.unlink()
    return Published(file, str(folder / "few_challenges.json"), folder / "data", folder / "run")


def test_its_identifiers_are_made_again_and_proven(published: Published, tmp_path: Path) -> None:
    out = tmp_path / "own"
    succeed_here(*published.flags("--out", out))
    trained, own = load_checkpoint(published.run), load_checkpoint(out)
    assert own.manifest["identifiers"] == {
        "set": "sources", "seed": 42, "num_aug": NUM_AUG,
        "sources": {"few": "a set of 4 tasks and 7 test outputs"},
    }  # fmt: skip
    assert own.manifest["proof"]["right"] > 60
    assert own.manifest["proof"]["shifted"] < 20
    assert torch.equal(own.rows[torch.from_numpy(own.puzzles.find(trained.puzzles))], trained.rows)
    succeed_here("checkpoint", "identifiers", *published.flags()[6:], "--out", tmp_path / "own.json")
    assert json.loads((tmp_path / "own.json").read_bytes()) == identifiers_of(own.puzzles)


def test_rows_of_another_seed_or_number_are_refused(published: Published, tmp_path: Path) -> None:
    """And where they are imported all the same, verify says so."""
    out = tmp_path / "own"
    said = fail_here(*published.flags("--seed", 43, "--out", out), logs=True)
    assert "its rows are not those of these puzzles (of 64 demonstrations" in said
    assert "name 13 puzzles" in fail_here(*published.flags("--num-aug", NUM_AUG - 1, "--out", out), logs=True)
    assert not out.exists()
    succeed_here(*published.flags("--seed", 43, "--unproven", "--out", out))
    assert not load_checkpoint(out).manifest["proof"]["right"] > 32
    done = run_here("checkpoint", "verify", published.run, out, "--data", published.data, code=2)
    right_line, wrong_line = done.stdout.splitlines()
    assert "sound; of 64 demonstrations 100% are answered exactly, with the next rows" in right_line
    assert "its rows are of other puzzles, or not learned" not in right_line
    assert wrong_line.endswith("its rows are of other puzzles, or not learned")


def test_named_identifiers_are_proven_where_the_tasks_are_given(published: Published, tmp_path: Path) -> None:
    names = identifiers_of(rebuild_identifiers([read_source(published.source)], 42, NUM_AUG))
    for file, order in (("right.json", names), ("wrong.json", [names[0], *reversed(names[1:])])):
        (tmp_path / file).write_text(json.dumps(order))
    words = ("checkpoint", "import", published.file, "--canvas", 3, "--source", published.source)
    succeed_here(*words, "--identifiers", tmp_path / "right.json", "--out", tmp_path / "own")
    said = fail_here(*words, "--identifiers", tmp_path / "wrong.json", "--out", tmp_path / "other", logs=True)
    assert "its rows are not those" in said
