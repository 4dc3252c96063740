"""Hundreds of damaged submission files: never a traceback, never a false word, by a second validator."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.errors import DataError
from arcpipe.submissions.check import check_submission
from arcpipe.submissions.format import read_submission
from arcpipe.task import Task

NUM_FILES = 1200
JUNK: tuple[Any, ...] = (
    None, True, False, -1, 10, 1.0, 0.5, 10**30, "1", "", [], {}, [[]], [[1], [1, 2]], [[True]], [[1.0]],
    [[0] * 31], [[0]] * 31, [[[1]]], {"attempt_1": [[1]]}, {"attempt_1": [[1]], "attempt_2": [[1]]},
)  # fmt: skip
CHARACTERS = '0123456789{}[]",:.-+eEntrufals \n\t\\\x00\x7f\u00e9\ufeff'


def is_valid(content: bytes, tests: dict[str, int]) -> bool:
    """Whether the file is what Kaggle's page asks for, written down a second time and in another way."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    def is_grid(value: Any) -> bool:
        assert type(value) is list
        assert 1 <= len(value) <= 30
        widths = {len(row) for row in value if type(row) is list}
        cells = [cell for row in value for cell in row]
        assert {type(row) for row in value} == {list}
        assert len(widths) == 1
        assert 1 <= widths.pop() <= 30
        return {type(cell) for cell in cells} == {int} and set(cells) <= set(range(10))

    try:
        loaded = json.loads(content.decode("utf-8"), object_pairs_hook=once)
        assert {task: len(entries) for task, entries in loaded.items()} == tests
        for entries in loaded.values():
            assert type(entries) is list
            for entry in entries:
                assert set(entry) == {"attempt_1", "attempt_2"}
                assert is_grid(entry["attempt_1"])
                assert is_grid(entry["attempt_2"])
    except (AssertionError, ValueError, TypeError, AttributeError, KeyError):
        return False
    return True


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of everything in a JSON value, as the keys and indices that lead there."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(found for key, item in items for found in paths_in(item, (*path, key)))]


def mutate_value(content: Any, rng: np.random.Generator) -> bytes:
    """Something in it replaced by junk or by something else of it, removed, or repeated."""
    mutated = copy.deepcopy(content)
    places = [path for path in paths_in(mutated) if path]
    *way, last = places[rng.integers(len(places))]
    owner = mutated
    for key in way:
        owner = owner[key]
    match rng.integers(4):
        case 0:
            owner[last] = JUNK[rng.integers(len(JUNK))]
        case 1:
            del owner[last]
        case 2 if isinstance(owner, list):
            owner.insert(last, copy.deepcopy(owner[last]))
        case _:
            found: Any = content
            for key in places[rng.integers(len(places))]:
                found = found[key]
            owner[last] = found
    return json.dumps(mutated).encode()


def mutate_text(content: Any, rng: np.random.Generator) -> bytes:
    """Its text with a stretch removed, repeated, moved or overwritten, or cut off."""
    text = json.dumps(content)
    start, stop = sorted(rng.integers(len(text) + 1, size=2).tolist())
    stop = min(stop, start + int(rng.integers(1, 40)))
    stretch = text[start:stop]
    character = CHARACTERS[rng.integers(len(CHARACTERS))]
    rest = text[:start] + text[stop:]
    place = int(rng.integers(len(rest) + 1))
    changed = (
        rest,
        text[:stop] + stretch + text[stop:],
        rest[:place] + stretch + rest[place:],
        text[:start] + character + text[start + 1 :],
        text[:start] + character + text[start:],
        text[:start],
    )
    return changed[rng.integers(len(changed))].encode()


def mutate_bytes(content: Any, rng: np.random.Generator) -> bytes:
    """Its bytes with some of them changed to any others."""
    damaged = np.frombuffer(json.dumps(content).encode(), np.uint8).copy()
    places = rng.integers(len(damaged), size=rng.integers(1, 4))
    damaged[places] = rng.integers(256, size=len(places))
    return damaged.tobytes()


def repeat_key(content: Any, rng: np.random.Generator) -> bytes:
    """A task, or an attempt, that stands twice."""
    text = json.dumps(content)
    key = ('"one": ', '"two": ', '"attempt_1": ', '"attempt_2": ')[rng.integers(4)]
    return text.replace(key, f"{key}[], {key}", 1).encode()


MUTATIONS = (mutate_value, mutate_text, mutate_bytes, repeat_key)


def test_the_second_validator_knows_a_good_file_from_a_bad_one(content: dict[str, Any]) -> None:
    tests = {"one": 1, "two": 2}
    assert is_valid(json.dumps(content).encode(), tests)
    assert not is_valid(json.dumps(content).encode(), {"one": 1})
    for junk in JUNK:
        damaged = content | {"one": [{"attempt_1": [[1]], "attempt_2": junk}]}
        assert not is_valid(json.dumps(damaged).encode(), tests)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_check_agrees_with_the_second_validator_on_every_damaged_file(
    mutate: Callable[[Any, np.random.Generator], bytes],
    tasks: list[Task],
    content: dict[str, Any],
    file: Path,
) -> None:
    tests = {task.id: len(task.tests) for task in tasks}
    verdicts = []
    for index in range(NUM_FILES // len(MUTATIONS)):
        damaged = mutate(content, np.random.default_rng([0, index]))
        file.write_bytes(damaged)
        findings = check_submission(file, tasks)
        verdicts.append(is_valid(damaged, tests))
        assert (not findings.errors) == verdicts[-1], damaged
        for problem in findings.problems:
            assert problem.message.startswith(str(file))
            assert problem.message.isprintable(), damaged
    assert verdicts.count(False) > len(verdicts) // 2


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_what_the_check_lets_pass_can_be_read_and_the_rest_is_one_error(
    mutate: Callable[[Any, np.random.Generator], bytes],
    tasks: list[Task],
    content: dict[str, Any],
    file: Path,
) -> None:
    for index in range(NUM_FILES // len(MUTATIONS)):
        file.write_bytes(mutate(content, np.random.default_rng([1, index])))
        is_good = not check_submission(file, tasks).errors
        try:
            submission = read_submission(file)
        except DataError:
            assert not is_good
        else:
            complete = {task_id: len(pairs) for task_id, pairs in submission.attempts.items()}
            assert is_good == (complete == {task.id: len(task.tests) for task in tasks})
