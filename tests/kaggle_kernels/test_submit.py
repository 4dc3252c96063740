"""`arcpipe kaggle status`, `submit` and `scores`: the output of a run is submitted once, never twice."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import succeed_here
from files import changing, json_of
from kaggle_server import ANSWER, COMPETITION, KEY, Failure, Fault, KaggleServer, Shell

SCORED, SCORED_AGAIN = (f"{COMPETITION}: submission {number} scored 31.39\n" for number in (1000, 1001))
INCORRECT = "Your notebook generated a submission file with incorrect format."


def test_the_whole_path(shell: Shell, server: KaggleServer, bundle: Path, tmp_path: Path) -> None:
    out, ledger = tmp_path / "out", tmp_path / "ledger.jsonl"
    manifest = {"sha256": hashlib.sha256(ANSWER).hexdigest(), "rule": "count"}
    server.outputs |= {
        "log/run.txt": b"a", "more.txt": b"b", "submission.manifest.json": json.dumps(manifest).encode()
    }  # fmt: skip
    url = "https://www.kaggle.com/code/someone/arcpipe-entry"
    assert f"kernel someone/arcpipe-entry version 1: {url}\n" in shell.succeed("push", bundle)
    ended = shell.succeed("status", bundle, "--wait", "--out", out)
    assert ended == "someone/arcpipe-entry version 1: COMPLETE\n"
    for name, content in server.outputs.items():
        assert (out / name).read_bytes() == content
    assert json_of(out / "manifest.json")["files"].keys() == server.outputs.keys()
    assert (out / "kernel.log").read_text() == "solved 1\ndone\n"
    assert "exists already" in shell.fail("status", bundle, "--out", out)
    assert shell.succeed("submit", bundle, "--ledger", ledger) == SCORED
    (entry,) = json.loads(succeed_here("submissions", "list", "--json", "--ledger", ledger))
    assert entry["sha256"] == manifest["sha256"]
    assert entry["made_by"] == manifest
    expected = {"score": "31.39", "reference": 1000, "kernel_version": 1, "competition": COMPETITION}
    assert expected.items() <= entry["kaggle"][0].items()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    # After another push elsewhere, the commands still ask about the version pushed from here.
    server.kernel_version = 2
    assert "someone/arcpipe-entry version 1: Kaggle says Not found (404)" in shell.fail("status", bundle)


def test_a_run_that_goes_on(shell: Shell, server: KaggleServer, bundle: Path, tmp_path: Path) -> None:
    assert f"its kernel is not on Kaggle: arcpipe kaggle push {bundle}" in shell.fail("status", bundle)
    assert not server.calls
    shell.succeed("push", bundle)
    server.faults["GetKernelSessionStatus"] = {"status": "RUNNING"}
    assert shell.succeed("status", bundle) == "someone/arcpipe-entry version 1: RUNNING\n"
    assert "it has no output yet: add --wait" in shell.fail("status", bundle, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "RUNNING: wait with arcpipe kaggle status" in shell.fail("submit", bundle)
    server.faults["GetKernelSessionStatus"] = Fault(503, "busy", times=3)
    assert "COMPLETE" in shell.succeed("status", bundle, "--wait")
    assert server.count("CreateCodeSubmission") == 0


def test_the_time_in_the_queue_does_not_count(shell: Shell, server: KaggleServer, bundle: Path) -> None:
    shell.succeed("push", bundle)
    wait = ("status", bundle, "--wait", "--max-minutes", 0)
    server.faults["GetKernelSessionStatus"] = {"status": "QUEUED"}
    line = shell.fail(*wait, "--max-queue-minutes", 0.003)
    assert "version 1: QUEUED after 0.003 minutes: run the same command to go on waiting" in line
    del server.faults["GetKernelSessionStatus"]
    server.states = ["QUEUED", "QUEUED", "COMPLETE"]
    done = shell.run(*wait)
    assert (done.returncode, done.stdout) == (0, "someone/arcpipe-entry version 1: COMPLETE\n"), done.stderr
    assert done.stderr.count("QUEUED: it waits for a machine, which does not count as running") == 1
    server.states = ["QUEUED", "RUNNING"]
    assert "version 1: RUNNING after 0 minutes" in shell.fail(*wait)


@pytest.mark.parametrize(("seconds", "rehearsed", "expected"), [
    (900, 0.9, "took 15.0 of its 600.0 minutes, 2% where 90% were rehearsed: read its log before you"),
    (900, None, "took 15.0 of its 600.0 minutes, 2% where 100% was to be expected: read its log before"),
    (900, 0.03, ""),
    (30000, 0.9, ""),
    (None, 0.9, ""),
])  # fmt: skip
def test_a_run_far_shorter_than_rehearsed_is_warned_about_before_it_is_submitted(
    shell: Shell, server: KaggleServer, pushed: Path, tmp_path: Path,
    seconds: int | None, rehearsed: float | None, expected: str,
) -> None:  # fmt: skip
    with changing(pushed / "kaggle-record.json") as content:
        content["rehearsed"] = rehearsed
    report = {"seconds": seconds, "clock": 36000}
    server.outputs["arcpipe-report.json"] = json.dumps(report if seconds else []).encode()
    for words in (["status"], ["submit", "--no-wait", "--ledger", tmp_path / "ledger.jsonl"]):
        done = shell.run(words[0], pushed, *words[1:])
        assert done.returncode == 0
        assert expected in done.stderr
        assert bool(expected) == ("read its log" in done.stderr)
    server.faults["GET"] = Fault(404)
    said = shell.run("status", pushed).stderr
    assert "nothing is known of how long it ran (arcpipe-report.json: its" in said


@pytest.mark.parametrize("status", [404, 500, 0])
def test_no_output(shell: Shell, server: KaggleServer, pushed: Path, tmp_path: Path, status: int) -> None:
    server.faults["GET"] = Fault(status)
    line = shell.fail("status", pushed, "--out", tmp_path / "out", "--timeout-s", 0.1)
    assert line.startswith("submission.json: its download: ")
    assert "localhost" not in line, "an address is signed"
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", ""])
def test_a_name_leads_inside(shell: Shell, pushed: Path, tmp_path: Path, name: str) -> None:
    shell.server.outputs = {name: b"x"}
    assert "which is not fetched" in shell.fail("status", pushed, "--out", tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(("state", "outputs", "expected"), [
    ({"status": "ERROR", "failureMessage": "no memory"}, {}, "version 1: ERROR (no memory): read "),
    ({"status": "CANCEL_ACKNOWLEDGED"}, {}, "version 1: CANCEL_ACKNOWLEDGED: read "),
    ({}, {"other.txt": b"x"}, "version 1: COMPLETE, but without submission.json: read "),
])  # fmt: skip
def test_a_failed_run_is_shown_and_not_submitted(
    shell: Shell, server: KaggleServer, pushed: Path, tmp_path: Path,
    state: dict[str, str], outputs: dict[str, bytes], expected: str,
) -> None:  # fmt: skip
    server.faults["GetKernelSessionStatus"], server.outputs = state, outputs
    assert f"{expected}its log (--out DIR fetches it), mend it" in shell.fail("status", pushed, "--wait")
    assert "out/kernel.log, mend it" in shell.fail("status", pushed, "--out", tmp_path / "out")
    assert (tmp_path / "out/kernel.log").read_text() == "solved 1\ndone\n"
    assert expected in shell.fail("submit", pushed)
    assert server.count("CreateCodeSubmission") == 0


@pytest.fixture
def submit(pushed: Path, tmp_path: Path) -> list[object]:
    """The arguments of a submission, with a ledger of its own."""
    return ["submit", pushed, "--ledger", tmp_path / "ledger.jsonl"]


def record(bundle: Path) -> list[dict[str, object]]:
    submissions: list[dict[str, object]] = json_of(bundle / "kaggle-record.json")["submissions"]
    return submissions


def lose_record(bundle: Path) -> None:
    """Forget the submissions of a bundle."""
    with changing(bundle / "kaggle-record.json") as content:
        content["submissions"] = []


def test_a_second_one_waits(shell: Shell, server: KaggleServer, submit: list[object], pushed: Path) -> None:
    scored, server.scored = server.scored, {"status": "PENDING"}
    assert shell.succeed(*submit, "--no-wait") == f"{COMPETITION}: submission 1000\n"
    line = shell.fail(*submit, "--max-minutes", 0)
    assert "PENDING after 0 minutes: run the same command to go on waiting" in line
    server.scored = scored
    assert shell.succeed(*submit) == SCORED
    assert shell.succeed(*submit) == SCORED
    assert len(record(pushed)) == 1
    # Also if its record is lost, and later submissions have moved it to another page of the list.
    lose_record(pushed)
    for number in range(3):
        server.submissions.insert(0, {"ref": 2000 + number, "status": "ERROR", "description": "by hand"})
    assert shell.succeed(*submit) == SCORED
    assert server.count("CreateCodeSubmission") == 1
    request = server.last_request("CreateCodeSubmission")
    assert (request["fileName"], request["kernelVersion"]) == ("submission.json", 1)


def test_a_version_is_submitted_again_only_on_purpose(
    shell: Shell, server: KaggleServer, submit: list[object], pushed: Path, tmp_path: Path
) -> None:
    line = shell.fail(*submit, "--again")
    assert line == "--again: someone/arcpipe-entry version 1 was not submitted yet: leave --again out"
    scored, server.scored = server.scored, {"status": "ERROR", "errorDescription": "Timeout"}
    assert "arcpipe kaggle submit --again sends this one once more" in shell.fail(*submit)
    server.scored = scored
    assert shell.succeed(*submit, "--again") == SCORED_AGAIN
    assert [(one["reference"], one["run"]) for one in record(pushed)] == [(1000, 1), (1001, 2)]
    assert server.submissions[0]["description"].startswith("[someone/arcpipe-entry version 1, run 2] ")
    # Without the flag the command waits for the newest submission, even if the history is lost.
    assert shell.succeed(*submit) == SCORED_AGAIN
    lose_record(pushed)
    assert shell.succeed(*submit) == SCORED_AGAIN
    server.scored = {"status": "PENDING"}
    assert shell.succeed(*submit, "--again", "--no-wait") == f"{COMPETITION}: submission 1002\n"
    assert "submission 1002 of someone/arcpipe-entry version 1 is PENDING" in shell.fail(*submit, "--again")
    assert server.count("CreateCodeSubmission") == 3
    newest = server.submissions.pop(0)
    line = shell.fail(*submit, "--again")
    assert "submission 1002 of someone/arcpipe-entry version 1 is not listed" in line
    server.submissions.insert(0, newest)
    server.scored = {"status": "COMPLETE", "publicScore": "23.3"}
    shell.succeed(*submit)
    listed = succeed_here("submissions", "list", "--ledger", tmp_path / "ledger.jsonl").splitlines()
    assert listed[-1].split()[3:] == ["2", "27.34", "23.30", "31.39", "someone/arcpipe-entry"]


def test_the_score_of_an_earlier_version_is_entered(
    shell: Shell, server: KaggleServer, submit: list[object], pushed: Path, tmp_path: Path
) -> None:
    def listed(*flags: str) -> str:
        return succeed_here("submissions", "list", *flags, "--ledger", tmp_path / "ledger.jsonl")

    def scores() -> list[tuple[int, str]]:
        facts = [fact for entry in json.loads(listed("--json")) for fact in entry["kaggle"]]
        return [(fact["kernel_version"], fact["score"]) for fact in facts]

    shell.succeed(*submit, "--no-wait")
    (pushed / "dataset/trunk.safetensors").write_bytes(b"another")
    shell.succeed("push", pushed)
    # The run of version 2 fails, but version 1 has its score.
    server.faults["GetKernelSessionStatus"] = {"status": "ERROR"}
    for _ in range(3):
        assert "version 2: ERROR: read its log" in shell.fail(*submit)
    assert scores() == [(1, "31.39")]
    del server.faults["GetKernelSessionStatus"]
    server.scored = {"status": "COMPLETE", "publicScore": "23.3"}
    assert shell.succeed(*submit) == f"{COMPETITION}: submission 1001 scored 23.3\n"
    assert scores() == [(1, "31.39"), (2, "23.3")]
    # Two bundles, one run each.
    assert [line.split()[3] for line in listed().splitlines()[-2:]] == ["1", "1"]


@pytest.mark.parametrize(("again", "late"), [(False, False), (False, True), (True, True)])
def test_a_submission_with_an_unknown_end_is_looked_for_before_it_is_repeated(
    shell: Shell, server: KaggleServer, submit: list[object], pushed: Path, again: bool, late: bool
) -> None:
    if again:
        shell.succeed(*submit)
    server.faults["CreateCodeSubmission"] = Fault(times=1)
    line = shell.fail(*submit, *["--again"] * again, "--timeout-s", 0.2)
    assert "did not answer in time" in line
    assert "it submits only what is not listed by then" in line
    assert [one["reference"] for one in record(pushed)] == [*[1000] * again, None]
    if late:
        server.answer("CreateCodeSubmission", server.last_request("CreateCodeSubmission"))
    for _ in range(2):
        assert shell.succeed(*submit) == (SCORED_AGAIN if again else SCORED)
    assert len(server.submissions) == 1 + again
    assert server.count("CreateCodeSubmission") == (1 if late else 2) + again


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.builds(Fault, st.sampled_from([0, 200, 500]), times=st.just(1), done=st.booleans())
        | st.builds(Fault, st.sampled_from([400, 403]), times=st.just(1)),
        max_size=3,
    ),
    forgets=st.booleans(),
)
def test_whatever_happens_there_is_one_submission(
    shell: Shell, server: KaggleServer, submit: list[object], pushed: Path, faults: list[Fault], forgets: bool
) -> None:
    server.submissions.clear()
    lose_record(pushed)
    for fault in faults:
        server.faults["CreateCodeSubmission"] = fault
        done = shell.run(*submit, "--no-wait", "--timeout-s", 0.1, "--poll-s", 0.01)
        assert len(server.submissions) <= 1
        # If the answer is lost, the submission is found in Kaggle's list.
        assert not fault.done or done.returncode == 0
        if forgets:
            lose_record(pushed)
    server.faults.clear()
    shell.succeed(*submit, "--no-wait")
    assert len(server.submissions) == 1


@pytest.mark.parametrize(("failure", "expected"), [
    ({"ref": 0, "message": "Not allowed"}, "did not take it: Not allowed; nothing was submitted"),
    (Fault(400, "Your team has used its daily Submission allowance (1) today."),
     "(1) today (400): wait for the next day, which begins at 00:00 UTC; nothing was submitted"),
    (Fault(400, "Could not find provided notebook"),
     "(400): a version can be submitted some 20 minutes after its run has ended: wait; if that is long"),
    (Fault(400, "No such file"), "says No such file (400): mend it, and run it again; nothing was"),
    (Fault(401, "Unauthenticated"), "(401): the credentials are refused: make a new token"),
    (Fault(403, "Denied"), "accept the competition's rules on its page; nothing was submitted"),
    (Fault(404, "Not found"), "(404): check owner and spelling; nothing was submitted"),
    (Fault(429, "Too many"), "(429): too many requests: run it again in some minutes; nothing was"),
], ids=lambda value: str(value.status) if isinstance(value, Fault) else None)  # fmt: skip
def test_a_refused_submission_may_be_repeated(
    shell: Shell, server: KaggleServer, submit: list[object], pushed: Path,
    failure: Failure, expected: str,
) -> None:  # fmt: skip
    server.faults["CreateCodeSubmission"] = failure
    assert expected in shell.fail(*submit)
    assert record(pushed) == []
    server.faults.clear()
    server.submissions.clear()
    assert shell.succeed(*submit) == SCORED


@pytest.mark.parametrize("method", [
    "GetKernelSessionStatus", "ListKernelSessionOutput", "GET", "ListSubmissions",
])  # fmt: skip
def test_a_step_before_it_fails(shell: Shell, submit: list[object], method: str) -> None:
    for status in (401, 403, 404, 429, 500, 0):
        shell.server.faults[method] = Fault(status, "Kaggle's words")
        # A fault of status 0 is no answer at all.
        line = shell.fail(*submit, "--timeout-s", 10 if status else 0.1)
        assert (f"({status})" if status else "did not answer in time") in line
    assert shell.server.count("CreateCodeSubmission") == 0


@pytest.mark.parametrize(("scored", "expected"), [
    ({"status": "COMPLETE", "publicScore": "", "errorDescription": INCORRECT}, INCORRECT[:-1]),
    ({"status": "COMPLETE"}, "COMPLETE without a score (Kaggle gives no reason)"),
    ({"status": "ERROR", "errorDescription": "Timeout"}, "ERROR without a score (Timeout)"),
])  # fmt: skip
def test_a_submission_without_a_score_has_failed(
    shell: Shell, submit: list[object], tmp_path: Path, scored: dict[str, str], expected: str
) -> None:
    shell.server.scored = scored
    line = shell.fail(*submit)
    assert expected in line
    assert "then push and submit a new version" in line
    assert expected in shell.fail(*submit)
    assert shell.server.count("CreateCodeSubmission") == 1
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_broken_file_is_not_submitted(shell: Shell, server: KaggleServer, submit: list[object]) -> None:
    server.outputs["submission.json"] = b'{"00d62c1b": [{"attempt_1": [[1]]}]}'
    assert "task 00d62c1b, test[0]: attempt_2 is missing" in shell.fail(*submit)
    server.faults["GetKernelSessionStatus"] = {"status": "DREAMING"}
    assert "Kaggle answers 'DREAMING', which its client does not know" in shell.fail(*submit)
    assert server.count("CreateCodeSubmission") == 0


def test_the_competition_is_named_where_the_kernel_mounts_several(
    shell: Shell, submit: list[object], pushed: Path, server: KaggleServer
) -> None:
    with changing(pushed / "kernel/kernel-metadata.json") as metadata:
        metadata["competition_sources"] = ["one", "two"]
    assert "its kernel mounts one, two: name a --competition" in shell.fail(*submit)
    assert "two: submission 1000 scored" in shell.succeed(*submit, "--competition", "two")
    assert server.last_request("CreateCodeSubmission")["competitionName"] == "two"


@pytest.mark.usefixtures("no_locks")
def test_no_lock_is_needed(shell: Shell, bundle: Path, tmp_path: Path) -> None:
    pushed = shell.run("push", bundle)
    assert pushed.returncode == 0, pushed.stderr
    shell.succeed("status", bundle, "--wait")
    submitted = shell.run("submit", bundle, "--ledger", tmp_path)
    assert (submitted.returncode, submitted.stdout) == (0, SCORED), submitted.stderr
    for done in (pushed, submitted):
        assert f"{bundle}: no locks here (No locks available): let no other process" in done.stderr
    last = submitted.stderr.splitlines()[-1]
    assert last.startswith(f"{tmp_path}: cannot be written (it is no file): not entered; ")


def test_the_scores_of_a_competition(shell: Shell, server: KaggleServer, submit: list[object]) -> None:
    scores = ("scores", "--competition", COMPETITION)
    assert shell.succeed(*scores) == f"{COMPETITION}: no submissions\n"
    shell.succeed(*submit, "--message", "first try")
    server.submissions.insert(0, {"ref": 7, "status": "COMPLETE", "errorDescription": INCORRECT})
    listed = shell.succeed(*scores).splitlines()
    assert listed[0] == f"7    COMPLETE  -  {INCORRECT[:-1]}"
    assert listed[1].startswith("1000  2026-10-01T12:00:00")
    assert "  COMPLETE  31.39  [someone/arcpipe-entry version 1] " in listed[1]
    assert listed[1].endswith(" first try")
    documents = json.loads(shell.succeed(*scores, "--json"))
    facts = [(one["reference"], one["score"], one["error"]) for one in documents]
    assert facts == [(7, "", INCORRECT[:-1]), (1000, "31.39", "")]
