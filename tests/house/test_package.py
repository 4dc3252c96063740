"""What is installed; `make test` runs the tests against it and says so in ARCPIPE_TEST_INSTALLED."""

import os
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import arcpipe
from sourcetree import package_files

pytestmark = pytest.mark.skipif(
    os.environ.get("ARCPIPE_TEST_INSTALLED") != "1", reason="the tests run from the checkout"
)


def installed_files() -> set[str]:
    files = metadata.files("arcpipe")
    assert files is not None
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_tests_run_against_the_installed_package() -> None:
    assert Path(arcpipe.__file__).is_relative_to(sysconfig.get_path("purelib"))
    assert metadata.version("arcpipe") == arcpipe.__version__


def test_only_arcpipe_lands_in_site_packages() -> None:
    scripts = {name for name in installed_files() if name.startswith("..")}
    assert {Path(name).name for name in scripts} == {"arcpipe"}
    tops = {name.partition("/")[0] for name in installed_files() - scripts}
    assert tops == {"arcpipe", f"arcpipe-{arcpipe.__version__}.dist-info"}


def test_the_installed_files_are_those_of_the_checkout() -> None:
    site = Path(arcpipe.__file__).parents[1]
    installed = {
        name: (site / name).read_bytes() for name in installed_files() if name.startswith("arcpipe/")
    }
    checkout = {name: path.read_bytes() for name, path in package_files().items()}
    assert installed.keys() == checkout.keys()
    assert [name for name, content in installed.items() if content != checkout[name]] == []
