"""Published checkpoints on the Hugging Face hub: a list of known ones, and their download."""

import re
from contextlib import suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock
from huggingface_hub import (
    HfFileMetadata,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from arcpipe.errors import CheckpointError, one_line
from arcpipe.log import logger
from arcpipe.official import CONFIG_FILE, IDENTIFIERS_FILE
from arcpipe.runs import file_hash

HUB = "hf:"
_NAME = re.compile(HUB + r"(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<path>.+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# OSError, and the base of all errors of the client's HTTP library, which differs between versions.
_FAILURES: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
# Options to import each of them: for the identifiers of its rows, and a recipe if it lacks all_config.yaml.
_ARC_1, _ARC_2 = (f"--rebuild-identifiers {name} --source CONCEPT" for name in ("arc-agi-1", "arc-agi-2"))
_ONE_ROW = "no identifiers"
_KNOWN = (
    ("arcprize/trm_arc_prize_verification/arc_v1_public/step_518071", "ARC-AGI-1", "1.82 GB", "mit", _ARC_1),
    ("arcprize/trm_arc_prize_verification/arc_v2_public/step_723914", "ARC-AGI-2", "2.47 GB", "mit", _ARC_2),
    ("Sanjin2024/TinyRecursiveModels-ARC-AGI-1/step_155718", "ARC-AGI-1", "1.82 GB", "apache-2.0", _ARC_1),
    ("Sanjin2024/TinyRecursiveModels-ARC-AGI-2/step_217602", "ARC-AGI-2", "2.47 GB", "apache-2.0", _ARC_2),
    ("Trelis/TRM-ARC-AGI-II/step_723914", "ARC-AGI-2", "2.47 GB", "apache-2.0", _ARC_2),
    (
        "alphaXiv/trm-model-arc-agi-1/step_259320_arc_ag1_attn_type_h3l4", "ARC-AGI-1", "1.82 GB", "mit",
        f"{_ARC_1} --recipe arc-agi-1",
    ),
    (
        "alphaXiv/trm-model-sudoku/step_32550_sudoku_epoch50k", "Sudoku-Extreme", "20 MB", "mit",
        f"{_ONE_ROW}, --recipe sudoku-extreme",
    ),
    (
        "alphaXiv/trm-model-maze/maze_hard_step_32550", "Maze-Hard", "27 MB", "mit",
        f"{_ONE_ROW}, --recipe maze-hard",
    ),
    (
        "Sanjin2024/TinyRecursiveModels-Sudoku-Extreme-mlp/step_16275", "Sudoku-Extreme", "20 MB",
        "apache-2.0", _ONE_ROW,
    ),
    (
        "Sanjin2024/TinyRecursiveModels-Sudoku-Extreme-att/step_21700", "Sudoku-Extreme", "27 MB",
        "apache-2.0", _ONE_ROW,
    ),
    ("Sanjin2024/TinyRecursiveModel-Maze-Hard/step_9765", "Maze-Hard", "27 MB", "apache-2.0", _ONE_ROW),
)  # fmt: skip
KNOWN = "\n".join(
    [
        f"{HUB}{name}\n    {data}, {size}, {license}; {options}"
        for name, data, size, license, options in _KNOWN
    ]
    + ["CONCEPT: kaggle/combined/arc-agi_concept_challenges.json of the official repository"]
)
"""The known checkpoints as text, each with its data set, size, license and import options."""


def fetch(name: str) -> tuple[Path, dict[str, str]]:
    """Download a file, and the configuration and identifiers beside it, if any, to the cache of the hub.

    Args:    name: hf:OWNER/NAME/PATH, or hf:OWNER/NAME@REVISION/PATH for another revision than main.
    Returns: the local file, with the others beside it; and its repository, revision and path.
    Raises:  CheckpointError if the download fails, or has another SHA-256 than the hub says.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise CheckpointError(f"{name}: expected {HUB}OWNER/NAME/PATH or {HUB}OWNER/NAME@REVISION/PATH")
    repo, revision, path = match["repo"], match["revision"] or "main", match["path"]
    try:
        # Get the metadata first: without a network, hf_hub_download retries for half a minute.
        _fill_cache(name, repo, get_hf_file_metadata(hf_hub_url(repo, path, revision=revision)))
        file = Path(hf_hub_download(repo, path, revision=revision))
    except HFValidationError as error:
        raise CheckpointError(f"{name}: {one_line(error)}") from None
    except _FAILURES as error:
        cached = try_to_load_from_cache(repo, path, revision=revision)
        if not isinstance(cached, str):
            raise CheckpointError(f"{name}: {_reason(error, repo, path, revision)}") from None
        logger.warning("%s: taken as it was downloaded before (%s)", name, one_line(error))
        file = Path(cached)
    commit = file.parents[len(PurePosixPath(path).parts) - 1].name
    for beside in (CONFIG_FILE, IDENTIFIERS_FILE):
        with suppress(EntryNotFoundError):
            hf_hub_download(repo, str(PurePosixPath(path).with_name(beside)), revision=commit)
    return file, {"repository": repo, "revision": commit, "path": path}


def _fill_cache(name: str, repo: str, facts: HfFileMetadata) -> None:
    """Download a large file to its place in the cache of the hub, resuming an earlier download.

    The hub's client would start again in each process, and does not check the SHA-256.
    """
    sha256 = facts.etag or ""
    blob = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "blobs", sha256)
    if not _SHA256.fullmatch(sha256) or blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{sha256}.arcpipe")
    # A login token is for the hub, not for the server that it redirects to.
    headers = build_hf_headers() if facts.location.startswith(constants.ENDPOINT) else {}
    with FileLock(part.with_suffix(".lock")):
        if blob.exists():
            return
        with part.open("ab") as file:
            http_get(
                facts.location, file, resume_size=file.tell(), headers=headers, expected_size=facts.size,
                displayed_filename=name,
            )  # fmt: skip
        if file_hash(part) != sha256:
            part.unlink()
            raise CheckpointError(f"{name}: its SHA-256 is not the one that the hub says: download it again")
        part.rename(blob)


def _reason(error: Exception, repo: str, path: str, revision: str) -> str:
    """Return why a file cannot be downloaded, and what to do."""
    page = f"https://huggingface.co/{repo}"
    if isinstance(error, GatedRepoError):
        return f"is gated: accept its terms on {page}, then log in with `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no repository {repo}, or it is private: then log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision}"
    if isinstance(error, EntryNotFoundError):
        return f"{repo} has no file {path}: see {page}/tree/{revision}"
    return (
        f"cannot be downloaded ({one_line(error)}): get the file and its {CONFIG_FILE} where there is a "
        "network, and import the file by its path"
    )
