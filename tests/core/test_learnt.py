"""What webhooks teach: the same whatever the order in which they are read, and however often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connector.core import learnt
from connector.records import Learnt, Preference, Word

START = datetime(2026, 3, 1, tzinfo=UTC)
TIMES = st.integers(0, 4).map(lambda half: START + timedelta(seconds=half / 2))
PREFERENCES = st.dictionaries(
    st.sampled_from(["topics", "channels"]), st.dictionaries(st.sampled_from(["a", "b"]), st.booleans())
)
OWN_WORDS = st.lists(st.builds(Word, TIMES, st.booleans(), by=st.just("own")), max_size=4)
WORDS = st.lists(
    st.builds(
        Word, TIMES, st.none() | st.booleans(), st.none() | st.sampled_from(["opened_at", "clicked_at"]), PREFERENCES
    ),
    max_size=6,
)


@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_in_which_words_arrive_makes_no_difference(words: list[Word], random: object) -> None:
    shuffled = sorted(words, key=lambda _: random.random())  # type: ignore[attr-defined]

    assert learnt.learn(Learnt(), shuffled) == learnt.learn(Learnt(), words)


@given(WORDS)
def test_what_is_heard_again_teaches_nothing_new(words: list[Word]) -> None:
    known = learnt.learn(Learnt(), words)

    assert learnt.learn(known, words) == known


@given(WORDS)
def test_the_newest_word_on_consent_counts_and_on_a_tie_the_opt_out(words: list[Word]) -> None:
    said = [(word.at, word.opted_out) for word in words if word.opted_out is not None]
    known = learnt.learn(Learnt(), words)

    assert (known.opt_changed_at, known.opted_out) == (max(said) if said else (None, False))


@given(WORDS)
def test_the_newest_time_of_each_fact_is_kept(words: list[Word]) -> None:
    known = learnt.learn(Learnt(), words)

    for fact in ("opened_at", "clicked_at"):
        seconds = [int(word.at.timestamp()) for word in words if word.fact == fact]
        assert known.facts.get(fact) == (max(seconds) if seconds else None)


@given(WORDS, WORDS)
def test_who_turns_out_to_be_two_has_heard_what_both_have(words: list[Word], others: list[Word]) -> None:
    both = learnt.merged(learnt.learn(Learnt(), words), learnt.learn(Learnt(), others))

    assert both == learnt.learn(Learnt(), [*words, *others])


@given(WORDS, WORDS)
def test_who_may_be_somebody_else_teaches_no_consent(words: list[Word], others: list[Word]) -> None:
    mine, theirs = learnt.learn(Learnt(), words), learnt.learn(Learnt(), others)
    both = learnt.merged(mine, theirs, consent=False)

    assert both.facts == learnt.merged(mine, theirs).facts
    assert both.opted_out == (mine.opted_out or learnt.merged(mine, theirs).opted_out)
    allowed = {(group, name) for group, entries in both.preferences.items() for name in entries if entries[name].wanted}
    assert allowed <= {(group, name) for group, entries in mine.preferences.items() for name in entries}


@given(WORDS, OWN_WORDS, st.randoms(use_true_random=False))
def test_whatever_the_order_an_opt_out_is_taken_back_only_by_what_was_said_after_it(
    words: list[Word], own: list[Word], random: object
) -> None:
    together = sorted([*words, *own], key=lambda _: random.random())  # type: ignore[attr-defined]
    known = learnt.learn(Learnt(), together)
    out = [word.at for word in together if word.opted_out]
    back = [word.at for word in together if word.opted_out is False]

    if out and not known.opted_out:
        assert known.opt_changed_at in back
        assert known.opt_changed_at > max(out)


def test_our_own_word_says_nothing_new_when_it_is_what_is_known() -> None:
    later = START + timedelta(days=1)
    for first, again in ((True, True), (False, False)):
        known = learnt.learn(Learnt(), [Word(START, opted_out=first)])
        assert learnt.learn(known, [Word(later, opted_out=again, by="own")]) == known
    assert learnt.learn(Learnt(), [Word(START, opted_out=False, by="own")]) == Learnt()


def test_our_own_word_counts_when_it_is_another_one_and_newer() -> None:
    out = learnt.learn(Learnt(), [Word(START, opted_out=True, by="own")])
    assert out == Learnt(True, START, opted_by="own")
    for at, expected in (
        (START - timedelta(seconds=1), out),
        (START, out),
        (START + timedelta(seconds=1), Learnt(False, START + timedelta(seconds=1), opted_by="own")),
    ):
        assert learnt.learn(out, [Word(at, opted_out=False, by="own")]) == expected


def test_the_last_word_may_be_customerios_again() -> None:
    words = [
        Word(START, opted_out=True, by="own"),
        Word(START + timedelta(days=1), opted_out=False),
    ]
    assert learnt.learn(Learnt(), words) == Learnt(False, START + timedelta(days=1), opted_by="customerio")


def test_who_turns_out_to_be_two_keeps_whose_word_the_last_one_was() -> None:
    ours = learnt.learn(Learnt(), [Word(START, opted_out=True, by="own")])

    assert learnt.merged(Learnt(), ours) == ours


def test_an_opt_out_of_which_nobody_said_when_stays_in_a_merge() -> None:
    undated = Learnt(opted_out=True)
    subscribed = Learnt(opted_out=False, opt_changed_at=START)
    assert learnt.merged(undated, subscribed).opted_out
    assert learnt.merged(subscribed, undated).opted_out


def test_each_topic_has_its_own_newest_word() -> None:
    first = Word(START, preferences={"topics": {"news": True, "offers": True}})
    second = Word(START + timedelta(days=1), preferences={"topics": {"offers": False}})
    known = learnt.learn(Learnt(), [second, first])

    at = int(START.timestamp())
    assert known.preferences == {"topics": {"news": Preference(True, at), "offers": Preference(False, at + 86_400)}}


def test_of_what_may_be_somebody_elses_word_only_the_refusals_stay() -> None:
    word = Word(START, opted_out=False, fact="opened_at", preferences={"topics": {"news": True, "offers": False}})

    assert learnt.without_consent(word) == Word(START, None, "opened_at", {"topics": {"offers": False}})
    assert learnt.without_consent(Word(START, opted_out=True)) == Word(START, opted_out=True)
