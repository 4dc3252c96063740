"""Candidates that two folders of predictions have in common, and whose agreement therefore says nothing."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augmentation import random_bits
from arcpipe.errors import DataError
from arcpipe.infer.config import deciding
from arcpipe.log import counted, logger
from arcpipe.predictions import read_candidates
from arcpipe.runs import json_bytes

_QUESTION = ("test_index", "dihedral", "variant", "rollout", "steps")
_NAMES = ("task", "colors")
# Two folders are of the same checkpoint on the same canvas if their manifests agree in these.
_CHECKPOINT = ("weights", "checkpoint_manifest", "canvas")


class _Asked(NamedTuple):
    """Hashes (N,) of the questions of a folder, and whether its rollouts after the first have noise."""

    path: Path
    is_noisy: bool
    questions: NDArray[np.uint64]


class Doubles:
    """Finds the questions that were asked twice, among folders of predictions that are read one by one.

    A question is a checkpoint, a test input, the way it is presented and the step of the answer; under noise,
    and of a flow, also what decides the noise. Files, and folders whose manifest has no hash of the weights,
    are not compared.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._asked: dict[tuple[Any, ...], list[_Asked]] = {}

    def distinct(self, path: Path, manifest: Mapping[str, Any]) -> Iterator[pa.Table]:
        """Yield the candidates of a folder or file, as `read_candidates`.

        Folders asked with noise have the first rollout, which has none, in common: it is left out of all but
        the first of them.

        Args:    manifest: of the folder; empty for a file.
        Raises:  DataError for any other question that an earlier folder has too.
        """
        if not manifest.get("weights"):
            yield from read_candidates([path])
            return
        earlier = self._asked.setdefault(tuple(manifest.get(name) for name in _CHECKPOINT), [])
        is_noisy, left_out, parts = bool(manifest.get("plan", {}).get("noise")), 0, [np.zeros(0, np.uint64)]
        for table in read_candidates([path]):
            questions, first = self._questions(table, manifest), table["rollout"].to_numpy() == 0
            keep = np.ones(len(table), bool)
            for other in earlier:
                double = np.isin(questions, other.questions)
                spared = first & (is_noisy or other.is_noisy)
                if (count := int((double & ~spared).sum())) > 0:
                    raise DataError(
                        f"{path}: asked the same checkpoint the same as {other.path}, so that "
                        f"{counted(count, 'candidate')} would count twice: vote on one of the two, or ask "
                        "otherwise (other augmentations, noise of another seed)"
                    )
                keep &= ~double
            left_out += int((~keep).sum())
            parts.append(questions)
            yield table.filter(keep)
        if left_out:
            logger.info("%s: %s without noise already counted", path, counted(left_out, "candidate"))
        earlier.append(_Asked(path, is_noisy, np.concatenate(parts)))

    def _questions(self, table: pa.Table, manifest: Mapping[str, Any]) -> NDArray[np.uint64]:
        """Return a hash (N,) of the question of each candidate."""
        columns = [table[name].to_numpy().astype(np.uint64) for name in _QUESTION]
        for name in _NAMES:
            texts = table[name].combine_chunks()
            known, numbers = texts.dictionary.to_pylist(), self._numbers
            codes = np.array([numbers.setdefault(text, len(numbers)) for text in known], np.uint64)
            columns.append(codes[texts.indices.to_numpy()])
        plan = manifest.get("plan")
        if plan is None:
            # Of an older version, which does not say whether its settings had an effect: all count.
            return random_bits(_hash(deciding(manifest.get("recipe", {}).get("infer", {}))), *columns)
        noise = np.zeros(len(table), np.uint64)
        is_flow = bool(plan.get("flow"))
        if is_flow or plan.get("noise"):
            names = ("noise", "seed", *(("gamma", "steps") if is_flow else ()))
            positions = table["order"].to_numpy() // (len(plan.get("marks", ())) + 1)
            noise = random_bits(_hash([plan.get(name) for name in names]), positions.astype(np.uint64))
            if not is_flow:
                noise *= table["rollout"].to_numpy() > 0
        return random_bits(0, *columns, noise)


def _hash(value: Any) -> int:
    """Return 64 bits that tell JSON values apart."""
    return int.from_bytes(hashlib.sha256(json_bytes(value)).digest()[:8])
