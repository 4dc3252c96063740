"""The page of a report in a real browser: it opens, is quick, and its filters, links and keys work."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from browser import Browser, chromium, find_chromium
from commands import succeed_here
from reports import KINDS, make_run, make_set, make_tasks

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine")

TASKS = 48
WHOLE = [f"task-{number:04}" for number in range(TASKS)]
CHARTS = ["Loss", "Accuracy in training", "Steps to halt", "Learning rate", "Throughput", "Evaluation"]

# What the reader sees of the list and of the open task.
NAMES = "[...document.querySelectorAll('#list .name')].map((one) => one.textContent)"
OPEN = "document.querySelector('#detail h2 a')?.textContent"
DIGITS = "document.querySelectorAll('#detail .grid text').length"
PRESSED = "document.querySelector('#filters [aria-pressed=true]').dataset.filter"
IS_OPEN = "getComputedStyle(document.getElementById('detail')).display !== 'none'"
WIDTH = "document.documentElement.scrollWidth"
SORT = (
    "(() => {{ const sort = document.getElementById('sort'); sort.value = '{}';"
    "sort.dispatchEvent(new Event('change')); }})()"
)
SOON = "new Promise((done) => setTimeout(done, 50))"


def report_on(num_tasks: int, folder: Path) -> Path:
    """The page of a report on tasks with grids of up to 30 x 30."""
    files = make_set(folder, make_tasks(num_tasks, most_side=30))
    succeed_here(
        "report", make_run(folder / "run"), "--predictions", files["predictions"],
        "--submission", files["submission"], "--challenges", files["challenges"],
    )  # fmt: skip
    return folder / "run" / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on the tasks of WHOLE."""
    return report_on(TASKS, tmp_path_factory.mktemp("report")).as_uri()


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


def names(*kinds: str) -> list[str]:
    return [task for number, task in enumerate(WHOLE) if KINDS[number % len(KINDS)] in kinds]


def test_a_report_on_400_tasks_answers_within_two_seconds(process: Browser, tmp_path: Path) -> None:
    """From the start of loading to a drawn task, then to each answer to the reader."""
    large = report_on(400, tmp_path)
    assert large.stat().st_size < 15e6
    process.view(1400)
    process.errors.clear()
    process.open(large.as_uri())
    timing = "performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"
    assert process.run(timing) < 2000
    assert (len(process.run(NAMES)), process.run(OPEN), process.errors) == (400, "task-0000", [])
    slowest = process.run(
        "(() => { const times = []; for (const one of document.querySelectorAll('#filters button')) {"
        "const began = performance.now(); one.click(); document.body.offsetHeight;"
        "times.push(performance.now() - began); } return Math.max(...times); })()"
    )
    assert slowest < 2000


def test_a_filter_keeps_its_kind_and_says_how_many(browser: Browser) -> None:
    for name in ("solved", "nearly", "size", "none", "cells", "outvoted"):
        browser.click(f"[data-filter={name}]")
        expected = names("cells", "outvoted") if name == "cells" else names(name)
        assert browser.run(NAMES) == expected
        counted = f"document.querySelector('[data-filter={name}] span').textContent"
        assert browser.run(counted) == str(len(expected))
        assert browser.run(OPEN) in expected
        said = browser.run("document.getElementById('count').textContent")
        assert said == f"{len(expected)} of {TASKS} tasks"
    browser.click("[data-filter=all]")
    assert browser.run(NAMES) == WHOLE


def test_a_near_tie_is_marked_kept_and_sorted_first(browser: Browser) -> None:
    document = "JSON.parse(document.getElementById('data').textContent).tasks"
    votes = browser.run(
        f"{document}.map((task) => task.tests.map((test) => test.ranked.map((one) => one[2])))"
    )
    tied = [
        task
        for task, tests in zip(WHOLE, votes, strict=True)
        if any(len(counts) > 2 and abs(counts[1] - counts[2]) <= 2 for counts in tests)
    ]
    assert 0 < len(tied) < TASKS
    browser.click("[data-filter=tie]")
    assert browser.run(NAMES) == tied
    assert "Attempt 2 was a near tie: " in browser.run("document.getElementById('detail').textContent")
    assert browser.run(
        "document.querySelectorAll('#list [aria-label=\"attempt 2 nearly tied\"]').length"
    ) == len(tied)
    browser.click("[data-filter=all]")
    for name, first in (("tie", tied), ("outvoted", names("outvoted"))):
        browser.run(SORT.format(name))
        assert set(browser.run(NAMES)[: len(first)]) == set(first)


def test_the_list_is_sorted(browser: Browser) -> None:
    found = {}
    for name in ("close", "unsure", "id", "file"):
        browser.run(SORT.format(name))
        found[name] = browser.run(NAMES)
    assert sorted(found["close"]) == found["id"] == found["file"] == WHOLE
    for name, kind in (("close", "solved"), ("unsure", "none")):
        assert set(found[name][: len(names(kind))]) == set(names(kind))


def test_search_by_task_id(browser: Browser) -> None:
    browser.press("/", *"K-003")
    assert browser.run(NAMES) == [f"task-003{last}" for last in range(10)]
    browser.press(*"zz")
    assert browser.run("document.getElementById('list').textContent") == "No task is like this."
    # Letters that are keys elsewhere are text in here.
    assert browser.run("document.getElementById('search').value") == "K-003zz"
    browser.press("Escape")
    assert browser.run("document.activeElement.id") != "search"


def test_a_link_opens_its_task(browser: Browser, page: str) -> None:
    browser.open(f"{page}#task-0041")
    assert browser.run(OPEN) == "task-0041"
    assert 0 <= browser.run("document.querySelector('#detail h2').getBoundingClientRect().top") < 900
    browser.click("[data-filter=none]")
    browser.run(f"location.hash = '#task-0000'; {SOON}")
    assert (browser.run(OPEN), browser.run(PRESSED)) == ("task-0000", "all")
    browser.open(f"{page}#%zz")
    assert browser.run(OPEN) == "task-0000"


def test_keys_move_through_what_is_shown(browser: Browser) -> None:
    browser.click("[data-filter=size]")
    shown = names("size")
    for key, expected in (("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0), ("j", 1)):
        browser.press(key)
        assert browser.run(OPEN) == shown[expected]
    assert browser.run("location.hash") == f"#{shown[1]}"
    assert browser.run("document.querySelector('#list [aria-current=true] .name').textContent") == shown[1]
    browser.press("?")
    assert browser.run("[...document.querySelectorAll('#keys-help:not([hidden]) dd')].length") == 6
    assert browser.run(DIGITS) == 0
    browser.press("d")
    assert browser.run(DIGITS) > 0


def test_a_task_shows_its_votes_its_errors_and_its_steps(browser: Browser, page: str) -> None:
    said = {
        "task-0001": ["within 3 cells", "The closer attempt has 2 wrong cells."],
        "task-0003": ["wrong size", "The size is wrong"],
        "task-0004": ["no votes", "None of its 6 candidates held a grid"],
        "task-0005": ["wrong cells", "found but outvoted"],
    }
    for task, sentences in said.items():
        browser.run(f"location.hash = '#{task}'; {SOON}")
        shown = browser.run("document.getElementById('detail').innerText")
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
    assert not browser.run(IS_OPEN)
    browser.click("#list li:nth-child(3) a")
    browser.run(SOON)
    assert (browser.run(IS_OPEN), browser.run(OPEN)) == (True, "task-0002")
    browser.click("#back")
    assert not browser.run(IS_OPEN)
    assert browser.run(WIDTH) <= 360


@pytest.mark.parametrize(("width", "dark"), [(360, True), (900, False), (1600, True)])
def test_the_page_is_not_blank_nor_too_wide(browser: Browser, page: str, width: int, dark: bool) -> None:
    browser.view(width, dark=dark)
    for address in (page, f"{page}#task-0002"):
        browser.open(address)
        browser.run(f"{SOON}.then(() => {SOON})")
        assert browser.run(WIDTH) <= width
        seen = np.asarray(imread(io.BytesIO(browser.screenshot()), format="png"))[:, :, :3] * 255
        green = seen[:, :, 1].mean()
        assert green < 100 if dark else green > 120
        assert len(np.unique(seen.round() @ (1, 256, 256**2))) > 50


def test_an_id_is_text_whatever_it_holds(process: Browser, tmp_path: Path) -> None:
    [task] = make_tasks(1)
    odd = "</script><img src=x onerror=alert(1)>"
    files = make_set(tmp_path, [replace(task, id=odd)])
    words = ("--submission", files["submission"], "--challenges", files["challenges"])
    succeed_here("report", make_run(tmp_path / "run", records=False), *words)
    process.errors.clear()
    process.view(1400)
    process.open((tmp_path / "run" / "report.html").as_uri())
    assert (process.run(NAMES), process.run(OPEN), process.errors) == ([odd], odd, [])
