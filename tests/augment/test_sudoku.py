"""Sudokus: sources, rules, generator, shuffles, and the batch solver against a plain recursive solver."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import csv, parquet

from arcpipe.augment.puzzles import BoardSettings
from arcpipe.augment.sudoku import (
    SudokuSettings,
    candidates,
    canonical,
    generate_split,
    generate_sudokus,
    read_sudokus,
    search,
    solve_boards,
)
from arcpipe.augmentation import random_bits
from arcpipe.boards import BOXES, Shuffle, is_valid, shuffles
from arcpipe.errors import DataError
from puzzles import EASY, HARD, KNOWN, board, csv_text, follows_the_rules, full_board, text, units


def test_the_same_puzzles_from_all_forms(tmp_path: Path) -> None:
    questions, answers = zip(*KNOWN, strict=True)
    notes = ["book, page 1"] * len(KNOWN)
    table = pa.table({"source": notes, "question": questions, "answer": answers, "rating": notes})
    csv.write_csv(table, tmp_path / "a.csv")
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "zeros.csv").write_text(csv_text(*KNOWN).replace(".", "0"))
    (tmp_path / "a.txt").write_text("\n" + "\n\n".join(questions))
    rows = "\n".join(f"x; {' '.join(question)};{answer}" for question, answer in KNOWN)
    (tmp_path / "others.csv").write_text(f"source;Quizzes ; solutions\n{rows}\n")
    with gzip.open(tmp_path / "packed.csv.gz", "wt") as packed:
        packed.write(csv_text(*KNOWN, header="puzzle,solution"))
    for name in ("a.csv", "zeros.csv", "a.parquet", "a.txt", "others.csv", "packed.csv.gz"):
        boards = read_sudokus(BoardSettings(source=str(tmp_path / name)))
        assert tuple(map(text, boards.questions)) == questions
        assert tuple(map(text, boards.answers)) == answers
        assert (boards.files, boards.unverified, boards.side, len(boards)) == ((tmp_path / name,), 0, 9, 3)


@pytest.mark.parametrize("form", ["csv", "parquet", "parquet, large strings"])
def test_large_tables_are_read_whole_and_in_order(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form.split(',')[0]}"
    # Of 60,000 questions to one answer, larger than the blocks of about a megabyte in which CSV is read.
    shown = np.arange(60_000)[:, None] >> np.arange(16) & 1
    questions = (full_board(4).ravel() * shown).astype(np.uint8).reshape(-1, 4, 4)
    strings = pa.array(map(text, questions), pa.large_string() if "large" in form else pa.string())
    columns = {"rating": np.arange(60_000), "question": strings, "answer": [text(full_board(4))] * 60_000}
    if form == "csv":
        csv.write_csv(pa.table(columns), path)
        path.write_bytes("\ufeff".encode() + path.read_bytes())
    else:
        parquet.write_table(pa.table(columns), path, row_group_size=10_000)
    found = read_sudokus(BoardSettings(source=str(path)), verify=0).questions
    assert found.dtype == np.uint8
    assert np.array_equal(found, questions)


def test_only_so_many_puzzles_are_solved(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text(*KNOWN[:2], ("." * 81, HARD[1])))
    settings = BoardSettings(source=str(tmp_path / "a.csv"))
    with pytest.raises(DataError, match="row 3"):
        read_sudokus(settings)
    assert read_sudokus(settings, verify=2).unverified == 1
    assert read_sudokus(settings, verify=0).unverified == 3


@given(st.sampled_from(list(BOXES)), st.integers(0, 2**32), st.integers(0, 255), st.booleans())
def test_an_answer_is_valid_by_rules_and_givens(side: int, seed: int, value: int, damaged: bool) -> None:
    rng = np.random.default_rng(seed)
    shuffle = shuffles(side, seed, np.array([0]), np.array([1]))
    answer = shuffled(shuffle, full_board(side)[None])[0]
    question = np.where(rng.random(answer.shape) < 0.4, answer, np.uint8(0))
    other = shuffled(shuffles(side, seed, np.array([0]), np.array([2])), full_board(side)[None])[0]
    if damaged:
        answer[tuple(rng.integers(0, side, 2))] = value
    for candidate in (answer, other):
        keeps = bool(((question == 0) | (question == candidate)).all())
        expected = keeps and follows_the_rules(candidate)
        assert is_valid("sudoku", question[None], candidate[None]).tolist() == [expected]


def distinct(boards: NDArray[np.uint8]) -> int:
    return len(np.unique(boards.reshape(len(boards), -1), axis=0))


@pytest.mark.parametrize(("side", "min_rating"), [(4, 0), (6, 0), (6, 1), (9, 0)])
def test_each_puzzle_has_one_solution_and_no_clue_to_spare(side: int, min_rating: int) -> None:
    boards = generate_sudokus(40, side, seed=2, min_rating=min_rating)
    solutions = solve_boards(boards.questions)
    assert (solutions.count == 1).all()
    assert np.array_equal(solutions.answers, boards.answers)
    assert solutions.rating.min() >= min_rating
    assert is_valid("sudoku", boards.questions, boards.answers).all()
    assert distinct(boards.questions) == len(boards)
    for question in boards.questions[:4]:
        clues = np.argwhere(question)
        without = np.repeat(question[None], len(clues), axis=0)
        without[np.arange(len(clues)), clues[:, 0], clues[:, 1]] = 0
        assert (solve_boards(without).count == 2).all()


def test_the_canonical_key_forgets_shuffles_alone() -> None:
    boards = generate_sudokus(4000, 4, seed=0)
    keys, numbers = canonical(boards.questions), np.arange(300)
    changed = shuffled(shuffles(4, 9, numbers, numbers + 1), boards.questions[:300])
    assert np.array_equal(canonical(changed), keys[:300])
    # Up to shuffles there are 36 minimal puzzles and 2 full boards.
    assert len(np.unique(keys)) == 36
    assert len(np.unique(canonical(boards.answers))) == 2


@pytest.mark.parametrize(
    ("side", "train_count", "test_count"), [(4, 300, 40), (4, 1, 1000), (4, 50, 0), (6, 100, 20)]
)
def test_train_and_test_have_nothing_in_common(side: int, train_count: int, test_count: int) -> None:
    train, test = generate_split(SudokuSettings(generate=train_count, test=test_count, side=side))
    assert (len(train), len(test)) == (train_count, test_count)
    assert distinct(np.concatenate([train.questions, test.questions])) == train_count + test_count
    if side == 4:
        assert not np.isin(canonical(train.questions), canonical(test.questions)).any()
    else:
        assert distinct(np.concatenate([train.answers, test.answers])) == train_count + test_count


class PlainSolver:
    """All solutions and the number of boards split, one board and one cell at a time."""

    def __init__(self, question: NDArray[np.uint8]) -> None:
        self.side = len(question)
        self.units = units(self.side)
        self.answers: list[NDArray[np.uint8]] = []
        self.rating = 0
        every = set(range(1, self.side + 1))
        self._search({place: {int(digit)} if digit else every for place, digit in np.ndenumerate(question)})

    def _search(self, cells: dict[tuple[int, ...], set[int]]) -> None:
        while (new := self._singles(cells)) != cells:
            cells = new
        if not all(cells.values()) or any(self._is_broken([cells[at] for at in unit]) for unit in self.units):
            return
        open_places = [place for place in sorted(cells) if len(cells[place]) > 1]
        if not open_places:
            answer = np.zeros((self.side, self.side), np.uint8)
            for place, digits in cells.items():
                (answer[place],) = digits
            self.answers.append(answer)
            return
        self.rating += 1
        place = min(open_places, key=lambda at: len(cells[at]))
        for digit in sorted(cells[place]):
            self._search({**cells, place: {digit}})

    def _singles(self, cells: dict[tuple[int, ...], set[int]]) -> dict[tuple[int, ...], set[int]]:
        cells = dict(cells)
        for unit in self.units:
            for place in unit:
                for other in unit:
                    if len(cells[place]) == 1 and other != place:
                        cells[other] = cells[other] - cells[place]
            for digit in range(1, self.side + 1):
                homes = [place for place in unit if digit in cells[place]]
                if len(homes) == 1:
                    cells[homes[0]] = {digit}
        return cells

    def _is_broken(self, unit: list[set[int]]) -> bool:
        return set().union(*unit) != set(range(1, self.side + 1))


@given(st.sampled_from([4, 6]), st.integers(0, 2**32), st.floats(0.3, 1.0))
def test_random_boards_are_solved_as_by_the_plain_solver(side: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    question = np.where(rng.random((side, side)) < share, full_board(side), np.uint8(0))
    if rng.random() < 0.5:
        question[tuple(rng.integers(0, side, 2))] = rng.integers(1, side + 1)
    if (question > 0).sum() < side:
        return
    plain, found = PlainSolver(question), solve_boards(question[None])
    expected = min(2, len(plain.answers))
    assert found.count[0] == expected
    assert found.rating[0] == (-1 if expected == 2 else plain.rating)
    answer = plain.answers[0] if expected == 1 else np.zeros_like(question)
    assert np.array_equal(found.answers[0], answer)


def test_each_board_is_judged_by_itself() -> None:
    # A repeated digit, a cell without a candidate, and no clue at all.
    clash, stuck, empty = board(EASY[0]), board(EASY[0]), np.zeros((9, 9), np.uint8)
    clash[0, 8] = 5
    stuck[0, 2] = 2
    boards = np.stack([*(board(question) for question, _ in KNOWN), clash, stuck, empty])
    alone = solve_boards(boards)
    assert [text(answer) for answer in alone.answers[:3]] == [answer for _, answer in KNOWN]
    assert not alone.answers[3:].any()
    assert alone.count.tolist() == [1, 1, 1, 0, 0, 2]
    assert (alone.rating > 0).tolist() == [False, False, True, False, False, False]
    assert alone.rating[-1] == -1
    many = np.random.default_rng(0).integers(0, len(boards), 60)
    together = solve_boards(boards[many])
    assert np.array_equal(together.count, alone.count[many])
    assert np.array_equal(together.answers, alone.answers[many])
    assert np.array_equal(together.rating, alone.rating[many])


def test_there_are_288_full_boards_of_side_4() -> None:
    first = np.zeros((4, 4, 4), np.uint8)
    first[:, 0, 0] = [1, 2, 3, 4]
    count = search(candidates(first), limit=255).count
    assert count.tolist() == [72, 72, 72, 72]


def shuffled(shuffle: Shuffle, boards: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the boards (N, S, S), each rearranged by its own shuffle."""
    item = np.arange(len(boards))[:, None, None]
    rows, columns, swap = shuffle.rows[:, :, None], shuffle.columns[:, None], shuffle.transpose[:, None, None]
    source = boards[item, np.where(swap, columns, rows), np.where(swap, rows, columns)]
    return shuffle.digits[item, source]


def test_random_bits_are_splitmix64() -> None:
    assert int(random_bits(0)[0]) == 0xE220A8397B1DCDAF


@given(
    st.sampled_from(list(BOXES)), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=1)
)
def test_a_shuffle_permutes_digits_rows_and_columns(side: int, seed: int, numbers: list[int]) -> None:
    variants = np.array(numbers, np.uint64)
    shuffle = shuffles(side, seed, np.arange(len(variants)), variants)
    for order, count in ((shuffle.digits, side + 1), (shuffle.rows, side), (shuffle.columns, side)):
        assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(count), (len(variants), 1)))
    assert not shuffle.digits[:, 0].any()


def test_a_shuffle_depends_on_seed_board_and_variant_alone() -> None:
    boards, variants = np.array([5, 5, 6, 5]), np.array([8, 9, 8, 8])
    together = shuffled(shuffles(9, 1, boards, variants), np.repeat(full_board(9)[None], 4, axis=0))
    assert np.array_equal(together[0], together[3])
    for other in (1, 2):
        assert not np.array_equal(together[0], together[other])
    alone = shuffled(shuffles(9, 1, boards[1:2], variants[1:2]), full_board(9)[None])
    assert np.array_equal(alone[0], together[1])
    other = shuffled(shuffles(9, 2, boards[1:2], variants[1:2]), full_board(9)[None])
    assert not np.array_equal(other, alone)


@pytest.mark.parametrize("side", BOXES)
def test_all_shuffles_are_about_equally_likely(side: int) -> None:
    count = 20_000
    shuffle = shuffles(side, 0, np.zeros(count, np.int64), np.arange(1, count + 1))
    for orders in (shuffle.rows, shuffle.columns, shuffle.digits[:, 1:] - 1):
        for place in range(side):
            share = np.bincount(orders[:, place], minlength=side) / count
            assert np.abs(share - 1 / side).max() < 0.015
    assert abs(shuffle.transpose.mean() - (0.5 if side != 6 else 0.0)) < 0.015
