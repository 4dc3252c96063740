"""What a notebook has mounted, and the submission that is complete whatever is missing.

Of Python's own library alone: this text is the first code of a bundle's notebook, which must leave a
submission where not even arcpipe's wheel is mounted.
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
    """Why an entry is no more than its fallback, or not even that: one line."""


def folders_below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder that holds files, or nothing at all, with the names of its files."""
    for folder, folders, names in os.walk(top, followlinks=True):
        if len(Path(folder).relative_to(top).parts) >= DEPTH:
            folders.clear()
        folders.sort()
        if names or not folders:
            yield Path(folder), sorted(names)


def listing(top: Path) -> str:
    """Return what lies below a folder, in one line: the folders, and the first names in each."""
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
    """Return the file arc-agi_WORDS.json: that of the competition before others, then the nearest."""
    # Kaggle's own page writes these names with hyphens too.
    name = re.compile(rf"arc-agi[_-]{'[_-]'.join(words)}\.json")
    paths = [folder / file for folder, files in folders_below(top) for file in files if name.fullmatch(file)]
    paths.sort(key=lambda path: (competition not in path.parts, len(path.parts), str(path)))
    return paths[0] if paths else None


def find_test(top: Path, competition: str) -> Path:
    """Return the competition's file of test tasks, or raise an EntryError that says what is mounted."""
    test = find_file(top, competition, "test", "challenges")
    if test is None:
        remedy = f"attach the competition {competition}".strip()
        raise EntryError(f"no arc-agi_test_challenges.json below {top}: {remedy}; {listing(top)}")
    return test


def num_tests(task: Any) -> int:
    """Return how many test inputs a task of a challenges file has; 1 if it is too broken to say."""
    tests = task.get("test") if isinstance(task, dict) else None
    return len(tests) if isinstance(tests, list) else 1


def fallbacks(tests: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Return a submission with the fallback for each test input, of which each task has so many."""
    return {name: [dict.fromkeys(ATTEMPTS, NO_ANSWER)] * count for name, count in tests.items()}


def write_fallback(test: Path, submission: Path) -> None:
    """Write a submission of fallbacks for a challenges file, or raise an EntryError if that is damaged."""
    try:
        tasks = json.loads(test.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EntryError(f"{test}: damaged, so that nothing can be answered ({error})") from None
    if not isinstance(tasks, dict) or not tasks:
        raise EntryError(f"{test}: holds no tasks by id, so that nothing can be answered")
    submission.parent.mkdir(parents=True, exist_ok=True)
    submission.write_text(json.dumps(fallbacks({name: num_tests(task) for name, task in tasks.items()})))


def lacks(bundle: Path) -> str:
    """Return what a bundle's folder lacks; nothing if all is there that its bundle.json names."""
    try:
        names = json.loads((bundle / BUNDLE_FILE).read_bytes()).get("files", {})
        return ", ".join(name for name in names if not (bundle / name).is_file())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"a {BUNDLE_FILE} that can be read"


def bundles(top: Path, digest: str = "") -> list[Path]:
    """Return the bundles' folders: whole ones first, of these the one whose bundle.json has this SHA-256."""

    def rank(folder: Path) -> int:
        if lacks(folder):
            return 2
        return int(hashlib.sha256((folder / BUNDLE_FILE).read_bytes()).hexdigest() != digest)

    return sorted((folder for folder, names in folders_below(top) if BUNDLE_FILE in names), key=rank)


def refuse_partial(top: Path, folders: Sequence[Path], dataset: str = "the bundle's dataset") -> None:
    """Raise an EntryError that says what is mounted, unless the first of the bundles is whole."""
    if not folders:
        raise EntryError(f"no {BUNDLE_FILE} below {top}: attach {dataset}; {listing(top)}")
    if missing := lacks(folders[0]):
        raise EntryError(f"{folders[0]} lacks {missing}: push the bundle again; {listing(top)}")
