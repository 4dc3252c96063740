"""The page of a report in a real browser: it opens, is quick, and its filters, links and keys work."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from browser import Browser, chromium, find_chromium
from commands import succeed_here
from reports import KINDS, make_run, make_set, make_tasks

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine")

TASKS = 400
WIDTHS = (360, 900, 1600)

CHARTS = ["Loss", "Accuracy in training", "Steps to halt", "Learning rate", "Throughput", "Evaluation"]

# What the reader sees of the list, of the open task, and whether a part is in the window.
NAMES = "[...document.querySelectorAll('#list .name')].map((one) => one.textContent)"
OPEN = "document.querySelector('#detail h2 a')?.textContent"
DIGITS = "document.querySelectorAll('#detail .grid text').length"
PRESSED = "document.querySelector('#filters [aria-pressed=true]').dataset.filter"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on 400 tasks."""
    folder = tmp_path_factory.mktemp("report")
    files = make_set(folder, make_tasks(TASKS, most_side=30))
    succeed_here(
        "report", make_run(folder / "run"), "--predictions", files["predictions"],
        "--submission", files["submission"], "--challenges", files["challenges"],
    )  # fmt: skip
    made = folder / "run" / "report.html"
    assert made.stat().st_size < 15e6
    return made.as_uri()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(process: Browser, page: str) -> Iterator[Browser]:
    """The page, freshly opened in a wide window; whatever a test does, it loads nothing and logs nothing."""
    process.view(1400)
    process.errors.clear()
    process.requests.clear()
    process.open(page)
    yield process
    assert process.errors == []
    loaded = {address.partition("#")[0] for address in process.requests if not address.startswith("data:")}
    assert loaded <= {page, "about:blank"}


def names(kind: str) -> list[str]:
    return [f"task-{number:04}" for number in range(TASKS) if KINDS[number % len(KINDS)] == kind]


def test_a_report_on_400_tasks_answers_within_two_seconds(browser: Browser) -> None:
    """From the start of loading to a drawn task, then to each answer to the reader."""
    assert (
        browser.run("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart") < 2000
    )
    assert len(browser.run(NAMES)) == TASKS
    assert browser.run(OPEN) == "task-0000"
    slowest = browser.run(
        "(() => { const times = []; for (const one of document.querySelectorAll('#filters button')) {"
        "const began = performance.now(); one.click(); document.body.offsetHeight;"
        "times.push(performance.now() - began); } return Math.max(...times); })()"
    )
    assert slowest < 2000


def test_a_filter_keeps_its_kind_and_says_how_many(browser: Browser) -> None:
    for name, kinds in {"solved": ["solved"], "nearly": ["nearly"], "size": ["size"], "none": ["none"],
                        "cells": ["cells", "outvoted"], "outvoted": ["outvoted"]}.items():  # fmt: skip
        browser.click(f"[data-filter={name}]")
        expected = sorted(task for kind in kinds for task in names(kind))
        assert browser.run(NAMES) == expected
        assert browser.run(f"document.querySelector('[data-filter={name}] span').textContent") == str(
            len(expected)
        )
        assert browser.run(OPEN) in expected
        assert browser.run("document.getElementById('count').textContent") == f"{len(expected)} of 400 tasks"
    browser.click("[data-filter=all]")
    assert len(browser.run(NAMES)) == TASKS


def test_the_list_is_sorted(browser: Browser) -> None:
    def sorted_by(name: str) -> list[str]:
        browser.run(
            f"(() => {{ const sort = document.getElementById('sort'); sort.value = '{name}';"
            "sort.dispatchEvent(new Event('change')); })()"
        )
        found: list[str] = browser.run(NAMES)
        return found

    whole = [f"task-{number:04}" for number in range(TASKS)]
    closest = sorted_by("close")
    assert sorted(closest) == whole
    assert set(closest[: len(names("solved"))]) == set(names("solved"))
    assert set(sorted_by("unsure")[: len(names("none"))]) == set(names("none"))
    assert sorted_by("id") == sorted_by("file") == whole


def test_search_by_task_id(browser: Browser) -> None:
    browser.press("/", *"K-012")
    assert browser.run(NAMES) == [f"task-012{last}" for last in range(10)]
    browser.press(*"zz")
    assert browser.run("document.getElementById('list').textContent") == "No task is like this."
    # Letters that are keys elsewhere are text in here.
    assert browser.run("document.getElementById('search').value") == "K-012zz"
    browser.press("Escape")
    assert browser.run("document.activeElement.id") != "search"


def test_a_link_opens_its_task(browser: Browser, page: str) -> None:
    browser.open(f"{page}#task-0321")
    assert browser.run(OPEN) == "task-0321"
    in_window = "(() => { const {top} = document.querySelector('#detail h2').getBoundingClientRect();"
    assert browser.run(f"{in_window} return top >= 0 && top < innerHeight; }})()")
    browser.click("[data-filter=none]")
    browser.run("location.hash = '#task-0000'; new Promise((done) => setTimeout(done, 50))")
    assert (browser.run(OPEN), browser.run(PRESSED)) == ("task-0000", "all")
    browser.open(f"{page}#%zz")
    assert browser.run(OPEN) == "task-0000"


def test_keys_move_through_what_is_shown(browser: Browser) -> None:
    browser.click("[data-filter=size]")
    shown = names("size")
    for key, expected in (("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0)):
        browser.press(key)
        assert browser.run(OPEN) == shown[expected]
    browser.press("j")
    assert browser.run("location.hash") == f"#{shown[1]}"
    current = "document.querySelector('#list [aria-current=true] .name').textContent"
    assert browser.run(current) == shown[1]
    browser.press("?")
    assert not browser.run("document.getElementById('keys-help').hidden")
    assert browser.run(DIGITS) == 0
    browser.press("d")
    assert browser.run(DIGITS) > 0


def test_a_task_shows_its_votes_its_errors_and_its_steps(browser: Browser, page: str) -> None:
    text = "document.getElementById('detail').innerText"
    said = {
        "task-0001": ["within 3 cells", "The closer attempt has 2 wrong cells."],
        "task-0003": ["wrong size", "The size is wrong"],
        "task-0004": ["no votes", "None of its 6 candidates held a grid"],
        "task-0005": ["wrong cells", "found but outvoted"],
    }
    for task, sentences in said.items():
        browser.run(f"location.hash = '#{task}'; new Promise((done) => setTimeout(done, 50))")
        shown = browser.run(text)
        assert [sentence for sentence in sentences if sentence not in shown] == []
    assert browser.run("document.querySelectorAll('#detail .bar.right').length") == 1
    crosses = "[...document.querySelectorAll('#detail .test > .row .wrong:not(.under)')]"
    assert browser.run(f"{crosses}.map((one) => one.getAttribute('d').split('M').length - 1)") == [5, 7]
    charts = "[...document.querySelectorAll('#charts img')].map((one) => [one.alt, one.naturalWidth > 0])"
    assert [title for title, is_drawn in browser.run(charts) if is_drawn] == CHARTS
    assert browser.run("document.querySelectorAll('#detail .steps svg.grid').length") == 3


def test_on_a_phone_a_task_covers_the_list_and_gives_it_back(browser: Browser, page: str) -> None:
    browser.view(360, 740)
    browser.open(page)
    visible = "getComputedStyle(document.getElementById('detail')).display !== 'none'"
    assert not browser.run(visible)
    browser.click("#list li:nth-child(3) a")
    browser.run("new Promise((done) => setTimeout(done, 50))")
    assert (browser.run(visible), browser.run(OPEN)) == (True, "task-0002")
    browser.click("#back")
    assert not browser.run(visible)
    assert browser.run("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_not_blank_nor_wider_than_the_window(
    browser: Browser, page: str, width: int, dark: bool
) -> None:
    browser.view(width, dark=dark)
    for address in (page, f"{page}#task-0002"):
        browser.open(address)
        browser.run("new Promise((done) => setTimeout(done, 100))")
        assert browser.run("document.documentElement.scrollWidth") <= width
        seen = pixels(browser.screenshot())
        green = (seen >> 8 & 255).mean()
        assert green < 100 if dark else green > 120
        assert len(np.unique(seen)) > 50


def pixels(png: bytes) -> NDArray[np.uint32]:
    """The pixels (H, W) of a PNG, a number for each color: red, green and blue in a byte each."""
    from matplotlib.image import imread

    parts = (np.asarray(imread(io.BytesIO(png), format="png"))[:, :, :3] * 255).astype(np.uint32)
    return parts[:, :, 0] << 16 | parts[:, :, 1] << 8 | parts[:, :, 2]


def test_an_id_is_text_whatever_it_holds(process: Browser, tmp_path: Path) -> None:
    [task] = make_tasks(1)
    odd = "</script><img src=x onerror=alert(1)>"
    files = make_set(tmp_path, [replace(task, id=odd)])
    succeed_here(
        "report", make_run(tmp_path / "run"), "--submission", files["submission"],
        "--challenges", files["challenges"],
    )  # fmt: skip
    process.errors.clear()
    process.view(1400)
    process.open((tmp_path / "run" / "report.html").as_uri())
    assert (process.run(NAMES), process.run(OPEN), process.errors) == ([odd], odd, [])
