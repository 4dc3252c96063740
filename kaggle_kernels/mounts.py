"""The files that a notebook has mounted, and a fallback submission that needs only the test file.

Standard library only: this text is the first code cell of a bundle's notebook, which must write a submission
even if arcpipe's wheel is not mounted.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BUNDLE_FILE = "bundle.json"
DEPTH = 7
SHOWN_FOLDERS, SHOWN_NAMES = 12, 5
ATTEMPTS, NO_ANSWER = ("attempt_1", "attempt_2"), [[0]]


class EntryError(Exception):
    """The reason, in one line, why an entry is only its fallback, or has not even that."""


def folders_below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder that contains files or is empty, with the names of its files."""
    for folder, folders, names in os.walk(top, followlinks=True):
        if len(Path(folder).relative_to(top).parts) >= DEPTH:
            folders.clear()
        folders.sort()
        if names or not folders:
            yield Path(folder), sorted(names)


def listing(top: Path) -> str:
    """List the folders below `top` and the first names in each, in one line."""
    folders = [(folder.relative_to(top).as_posix(), names) for folder, names in folders_below(top)]
    shown = []
    for folder, names in folders[:SHOWN_FOLDERS]:
        more = [f"{len(names) - SHOWN_NAMES} more"] if len(names) > SHOWN_NAMES else []
        shown.append(f"{folder} ({', '.join(names[:SHOWN_NAMES] + more) or 'empty'})")
    if len(folders) > SHOWN_FOLDERS:
        shown.append(f"{len(folders) - SHOWN_FOLDERS} more folders")
    nothing = not any(names or folder != "." for folder, names in folders)
    return f"mounted below {top}: " + ("nothing" if nothing else "; ".join(shown))


def find_file(top: Path, competition: str, *words: str) -> Path | None:
    """Return the file arc-agi_WORDS.json, preferably of the competition, then the one nearest to `top`."""
    # Kaggle's page also writes these names with hyphens.
    name = re.compile(rf"arc-agi[_-]{'[_-]'.join(words)}\.json")
    paths = [folder / file for folder, files in folders_below(top) for file in files if name.fullmatch(file)]
    paths.sort(key=lambda path: (competition not in path.parts, len(path.parts), str(path)))
    return paths[0] if paths else None


def find_test(top: Path, competition: str) -> Path:
    """Return the competition's test file; raise an EntryError that lists what is mounted if there is none."""
    test = find_file(top, competition, "test", "challenges")
    if test is None:
        remedy = f"attach the competition {competition}".strip()
        raise EntryError(f"no arc-agi_test_challenges.json below {top}: {remedy}; {listing(top)}")
    return test


def num_tests(task: Any) -> int:
    """Return the number of test inputs of a task in a challenges file; 1 if the task is malformed."""
    tests = task.get("test") if isinstance(task, dict) else None
    return len(tests) if isinstance(tests, list) else 1


def fallbacks(tests: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Return a submission of fallbacks for tasks with these numbers of test inputs."""
    return {name: [dict.fromkeys(ATTEMPTS, NO_ANSWER)] * count for name, count in tests.items()}


def write_fallback(test: Path, submission: Path) -> None:
    """Write a submission of fallbacks for a challenges file; raise an EntryError if the file is damaged."""
    try:
        tasks = json.loads(test.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EntryError(f"{test}: damaged, so that nothing can be answered ({error})") from None
    if not isinstance(tasks, dict) or not tasks:
        raise EntryError(f"{test}: holds no tasks by id, so that nothing can be answered")
    submission.parent.mkdir(parents=True, exist_ok=True)
    submission.write_text(json.dumps(fallbacks({name: num_tests(task) for name, task in tasks.items()})))


def lacks(bundle: Path) -> str:
    """Return the files of bundle.json that the bundle folder lacks, as text; empty if it is complete."""
    try:
        names = json.loads((bundle / BUNDLE_FILE).read_bytes()).get("files", {})
        return ", ".join(name for name in names if not (bundle / name).is_file())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"a {BUNDLE_FILE} that can be read"


def bundles(top: Path, digest: str = "") -> list[Path]:
    """Return the bundle folders: complete ones first, and first of these the one with this SHA-256."""

    def rank(folder: Path) -> int:
        if lacks(folder):
            return 2
        return int(hashlib.sha256((folder / BUNDLE_FILE).read_bytes()).hexdigest() != digest)

    return sorted((folder for folder, names in folders_below(top) if BUNDLE_FILE in names), key=rank)


def refuse_partial(top: Path, folders: Sequence[Path], dataset: str = "the bundle's dataset") -> None:
    """Raise an EntryError that lists what is mounted, unless the first bundle is complete."""
    if not folders:
        raise EntryError(f"no {BUNDLE_FILE} below {top}: attach {dataset}; {listing(top)}")
    if missing := lacks(folders[0]):
        raise EntryError(f"{folders[0]} lacks {missing}: push the bundle again; {listing(top)}")
