"""What the official client finds around itself: no network, or a temporary folder of its own."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def offline() -> Iterator[None]:
    """No request of the block leaves this process: the client asks Kaggle while it is imported."""
    names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    before = {name: os.environ.get(name) for lower in names for name in (lower, lower.upper())}
    # No proxy speaks this, so that a request fails before it is sent.
    os.environ.update({name: "" if name.lower() == "no_proxy" else "offline://x" for name in before})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def private_temporary() -> Iterator[None]:
    """A folder for the block's temporary files: the client keeps the rest of a failed upload in there."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
