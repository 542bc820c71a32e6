"""The journal: what is read back from it, and who may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.tracking.journal import METRICS_A_CALL, Call, Journal

URI = "http://127.0.0.1:9"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(tmp_path, URI)


def taken(journal: Journal) -> list[Call]:
    """All calls, each noted as sent."""
    calls = []
    while (call := journal.next()) is not None:
        calls.append(call)
        journal.note_sent(call, f"server-{call.run}" if call.method == "start_run" else None)
    return calls


def point(step: int) -> tuple[str, float, int, int]:
    return ("loss", 1.0 / step, 1000 + step, step)


def abandon(journal: Journal) -> None:
    """As the end of its process does: the lock is freed, the file stays."""
    journal._file.close()


def test_next_calls_in_their_order_with_their_arguments(journal: Journal) -> None:
    run = journal.start_run("law", {"a": "b"})
    journal.add("set_tag", run, name="n", value="v")
    journal.end_run(run, "FINISHED")
    calls = taken(journal)
    assert [call.method for call in calls] == ["start_run", "set_tag", "end_run"]
    assert calls[1].arguments == {"name": "n", "value": "v"}
    assert journal.ids == {run: f"server-{run}"}
    assert journal.waiting() == 0


def test_next_metrics_in_a_row_are_one_call_up_to_the_limit(journal: Journal) -> None:
    for step in range(1, METRICS_A_CALL + 11):
        journal.add("log_metrics", "a", points=[point(step)])
    journal.add("log_metrics", "b", points=[point(1)])
    calls = taken(journal)
    assert [(c.run, len(c.arguments["points"])) for c in calls] == [
        ("a", METRICS_A_CALL), ("a", 10), ("b", 1),
    ]  # fmt: skip
    steps = [p[3] for call in calls[:2] for p in call.arguments["points"]]
    assert steps == list(range(1, METRICS_A_CALL + 11))


def test_end_run_keeps_the_first_status(journal: Journal) -> None:
    run = journal.start_run("law", {})
    journal.end_open_runs("KILLED")
    journal.end_run(run, "FAILED")
    assert [c.arguments["status"] for c in taken(journal) if c.method == "end_run"] == ["KILLED"]


def test_close_removes_what_was_sent_and_keeps_what_was_not(tmp_path: Path) -> None:
    sent, kept = Journal.create(tmp_path, URI), Journal.create(tmp_path, URI)
    for journal in (sent, kept):
        journal.start_run("law", {})
    taken(sent)
    sent.close()
    kept.close()
    kept.add("set_tag", "late", name="n", value="v")
    assert [path for path in tmp_path.glob("*.jsonl")] == [kept.path]
    assert "late" not in kept.path.read_text()


def test_orphan_goes_on_behind_what_was_sent_and_its_open_runs_were_killed(
    tmp_path: Path, journal: Journal
) -> None:
    parent = journal.start_run("law", {})
    child = journal.start_run("distill", {}, parent=parent)
    journal.end_run(child, "FINISHED")
    first = journal.next()
    assert first is not None
    journal.note_sent(first, "server-id")
    journal.note_failed()
    abandon(journal)
    (orphan,) = Journal.orphans(tmp_path, URI)
    assert (orphan.ids, orphan.failures) == ({parent: "server-id"}, 1)
    calls = taken(orphan)
    assert [(c.method, c.run) for c in calls] == [
        ("start_run", child), ("end_run", child), ("end_run", parent),
    ]  # fmt: skip
    assert [c.arguments["status"] for c in calls[1:]] == ["FINISHED", "KILLED"]


def test_orphan_whose_last_line_is_torn_loses_that_line_alone(
    tmp_path: Path, journal: Journal
) -> None:
    run = journal.start_run("law", {})
    journal._file.write(b'{"call": "set_tag", "run": "')
    abandon(journal)
    (orphan,) = Journal.orphans(tmp_path, URI)
    assert [c.method for c in taken(orphan)] == ["start_run", "end_run"]
    assert orphan.ids == {run: f"server-{run}"}


def test_orphans_running_flow_other_server_and_taken_journal_are_left_alone(
    tmp_path: Path, journal: Journal
) -> None:
    elsewhere = Journal.create(tmp_path, "http://other:5000")
    journal.start_run("law", {})
    elsewhere.start_run("law", {})
    assert Journal.orphans(tmp_path, URI) == []
    abandon(journal)
    abandon(elsewhere)
    (first,) = Journal.orphans(tmp_path, URI)
    assert first.path == journal.path
    assert Journal.orphans(tmp_path, URI) == []


def test_orphans_password_of_the_server_changed_are_found(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "http://ann:old@host:5000")
    journal.start_run("law", {})
    abandon(journal)
    assert len(Journal.orphans(tmp_path, "http://ann:new@host:5000")) == 1


def test_journal_never_holds_a_password(journal: Journal) -> None:
    journal.add("log_params", "run", params={"uri": "http://ann:secret@host"})
    assert "secret" not in journal.path.read_text()
    assert json.loads(journal.path.read_text())["params"] == {"uri": "http://***@host"}
