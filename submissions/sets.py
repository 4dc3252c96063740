"""The public ARC sets by name: which version of which set a file is about, told by its task ids."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

# By `_fingerprint`. ARC-AGI-2's evaluation set is in use in two versions that differ in five tasks'
# numbers of tests; a score on one is not a score on the other.
_NAMES = {
    "fae74bfede03095c": "ARC-AGI-1 training",
    "c07c3fd04d08c1aa": "ARC-AGI-1 evaluation",
    "f67ca7be5e3fe597": "ARC-AGI-2 training",
    "2fb2325ea351932a": "ARC-AGI-2 evaluation of 167 test outputs (arcprize/ARC-AGI-2)",
    "87fe2175dc818daa": "ARC-AGI-2 evaluation of 172 test outputs (Kaggle 2025)",
    "501038b7fb785663": "ConceptARC",
}


@dataclass(frozen=True)
class TaskSet:
    """A set of tasks, as far as scores depend on it.

    name: of a public set; None for any other. fingerprint: the same for the same task ids with the same
    numbers of tests.
    """

    name: str | None
    fingerprint: str
    num_tasks: int
    num_outputs: int

    def __str__(self) -> str:
        return self.name or f"a set of {self.num_tasks} tasks and {self.num_outputs} test outputs"


def task_set(num_tests: Mapping[str, int]) -> TaskSet:
    """The TaskSet of these tasks; `num_tests` is the number of tests by task id."""
    fingerprint = _fingerprint(num_tests)
    return TaskSet(_NAMES.get(fingerprint), fingerprint, len(num_tests), sum(num_tests.values()))


def _fingerprint(num_tests: Mapping[str, int]) -> str:
    lines = "".join(f"{task_id} {count}\n" for task_id, count in sorted(num_tests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
