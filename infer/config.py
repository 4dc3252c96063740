"""The settings of inference, and how one ended; without torch, which takes `--help` seconds to load."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from arcpipe.errors import ArcpipeError
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import STRICT, Count, Positive

FRESH_VOTES = 64
"""How often a test input is asked under fresh colorings if no number of votes is given."""
_CHANGE_NO_PREDICTION = ("batch_size", "compile")


@dataclass(frozen=True)
class Plan:
    """How each item is computed.

    steps: the maximum of supervision steps.
    halt: when to end earlier. never; stable: if the answer has been the same for STABLE_STEPS steps; learned:
        if the halting head says so and the answer is that of the step before.
    marks: the steps, before the last one, whose answers are candidates too, ascending.
    noise: the deviation of the noise added to the latent before each step, except in rollout 0. It is a
        function of (seed, position, step).
    seed: of the noise.
    gamma: for a network with flow, the amount of fresh noise in each step.
    """

    steps: int
    halt: str = "never"
    marks: tuple[int, ...] = ()
    noise: float = 0.0
    seed: int = 0
    gamma: float = 0.0

    @property
    def answers_each(self) -> int:
        """How many answers an item has: one at each mark and the final one."""
        return len(self.marks) + 1


@dataclass(frozen=True, kw_only=True)
class InferSettings:
    """The table [infer] of a recipe. Defaults: those of the official code, all steps for every item."""

    __pydantic_config__ = STRICT

    max_steps: Annotated[
        int, Field(ge=0, le=10000, description="Supervision steps; 0 for as many as in training.")
    ] = 0
    batch_size: Annotated[
        int, Field(gt=0, le=2**20, description="Grids computed at a time, by each process.")
    ] = 256
    halt: Annotated[
        Literal["never", "stable", "learned"],
        Field(
            description="When to end before the last step: never; stable: the answer was the same for three "
            "steps; learned: the model says that it is right, and it is that of the step before."
        ),
    ] = "never"
    candidates_at: Annotated[
        list[Positive], Field(max_length=1000, description="Steps whose answers are candidates too.")
    ] = field(default_factory=list)
    rollouts: Annotated[
        int, Field(gt=0, description="How often to ask each item, all but the first time with noise.")
    ] = 1
    noise: Annotated[
        float, Field(ge=0, description="Deviation of the noise that each step adds to the latent.")
    ] = 0.0
    gamma: Annotated[
        float,
        Field(
            ge=0,
            description="Of a model with flow: how much fresh noise each step takes; 0 for none, Euler's "
            "method. Its rollouts differ by their noise alone.",
        ),
    ] = 1.0
    variants: Annotated[
        Count, Field(description="Ask each Sudoku also so many times shuffled, each maze turned.")
    ] = 0
    votes: Annotated[
        Count,
        Field(
            description="Ask each test input under at most so many augmentations, rollouts apart; 0: all, or "
            f"{FRESH_VOTES} where colorings are drawn afresh."
        ),
    ] = 0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Seed of the noise.")] = 0
    precision: Annotated[
        Literal["trained", "auto", "float32", "bfloat16", "float16"],
        Field(description="Compute dtype; trained takes that of the training."),
    ] = "trained"
    compile: Annotated[
        Literal["auto", "on", "off"],
        Field(description="Compile the network; auto does on a GPU. The first steps take a minute longer."),
    ] = "auto"

    def plan(self, config: TRMConfig) -> Plan:
        """Return how each item is computed.

        Raises:  ArcpipeError for settings that contradict each other.
        """
        steps = self.max_steps or config.max_steps
        marks = tuple(sorted({*self.candidates_at} - {steps}))
        if marks and marks[-1] > steps:
            raise ArcpipeError(f"a candidate is wanted at step {marks[-1]}, but there are only {steps} steps")
        if config.flow and (self.halt != "never" or self.noise):
            raise ArcpipeError(
                f"halt {self.halt} and noise {self.noise:g} for a model with flow, which takes all its steps "
                "and has noise of its own: leave both out"
            )
        if not config.flow and (self.rollouts > 1) != (self.noise > 0):
            raise ArcpipeError(
                f"{self.rollouts} rollouts with noise {self.noise:g}: the first rollout is without noise, "
                "so ask for more than one and for noise, or for neither"
            )
        return Plan(steps, self.halt, marks, self.noise, self.seed, self.gamma)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a folder of predictions that decide its candidates.

    Those that the folder's version did not have were at their defaults.
    """
    known = asdict(InferSettings()) | dict(settings)
    return {name: value for name, value in known.items() if name not in _CHANGE_NO_PREDICTION}


@dataclass(frozen=True)
class InferResult:
    """What a folder of predictions holds after an inference.

    candidates: rows of all shards.
    done: items answered by all processes so far.
    total: items of the schedule.
    interrupted: a signal ended the inference.
    late: the time limit ended it.
    alone: no other process was answering.
    by_ctrl_c: Ctrl-C (SIGINT) was among the signals.
    """

    candidates: int
    done: int
    total: int
    interrupted: bool
    late: bool
    alone: bool
    by_ctrl_c: bool
