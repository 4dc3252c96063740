"""How much of what was asked is answered."""

from dataclasses import dataclass

COVERAGE = ("answered", "test_inputs", "votes", "votes_asked")
"""The names of `Coverage.facts`, which stand among the scores of an evaluation."""


@dataclass(frozen=True)
class Coverage:
    """How many of the test inputs have a candidate, and how many of the votes that were asked for are in."""

    answered: int
    test_inputs: int
    votes: int
    votes_asked: int

    @property
    def whole(self) -> bool:
        """Whether there is nothing left to answer."""
        return self.votes == self.votes_asked

    @property
    def facts(self) -> dict[str, float]:
        """The share of the test inputs that is answered, and the counts, by name."""
        return {
            "answered": self.answered / self.test_inputs,
            "test_inputs": self.test_inputs,
            "votes": self.votes,
            "votes_asked": self.votes_asked,
        }

    @property
    def text(self) -> str:
        """How many test inputs are answered, and what a score makes of the others."""
        if not self.answered:
            return f"no score, none of {self.test_inputs} test inputs answered"
        if self.answered == self.test_inputs:
            return f"all {self.test_inputs} test inputs answered"
        share = f"{self.answered / self.test_inputs:.1%}"
        return (
            f"{self.answered} of {self.test_inputs} test inputs answered ({share}), the others count as wrong"
        )
