"""A crowd: who it is, who is asked, and what it hands back."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.config import TeacherSettings
from backflip.errors import SettingsError
from backflip.feedback.gold import Gold, find_gold
from backflip.feedback.teachers import Item, ask_crowd, assign, make_crowd, make_items
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import KINDS

GROUPS = (
    TeacherSettings(name="careful", count=3, beta=20.0),
    TeacherSettings(name="hasty", count=2, beta=2.0),
)


def replies(prompt: str, *texts: str) -> list[Sample]:
    return [
        Sample.of(Prompt.from_text(prompt), Completion(text=text, finish="stop"), index=i)
        for i, text in enumerate(texts)
    ]


def many(number: int) -> list[Item]:
    pair = tuple(replies("Hello?", "I love you.", "I hate you."))
    return [Item("comparison", pair)] * number


def test_a_crowd_has_so_many_of_each_group() -> None:
    crowd = make_crowd(GROUPS, "sentiment", seed=3)
    assert [t.name for t in crowd] == ["careful-1", "careful-2", "careful-3", "hasty-1", "hasty-2"]
    assert [t.settings.beta for t in crowd] == [20.0] * 3 + [2.0] * 2
    assert {t.gold for t in crowd} == {find_gold("sentiment")}
    assert {t.seed for t in crowd} == {3}


def test_groups_of_one_name_and_unknown_measures_are_refused() -> None:
    with pytest.raises(SettingsError, match="two groups of teachers are called 'careful'"):
        make_crowd((GROUPS[0], GROUPS[0]), "sentiment", seed=0)
    with pytest.raises(SettingsError, match="unknown gold measure 'charm'"):
        make_crowd(GROUPS, "charm", seed=0)


@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 2**32))
def test_work_is_shared_fairly(number: int, overlap: int, seed: int) -> None:
    crowd = make_crowd(GROUPS, "sentiment", seed=0)
    assigned = assign(crowd, many(number), overlap=overlap, seed=seed)
    assert len(assigned) == number
    assert all(len({t.name for t in teachers}) == overlap for teachers in assigned)
    load = Counter(t.name for teachers in assigned for t in teachers)
    loads = [load[t.name] for t in crowd]
    assert max(loads) - min(loads) <= 1
    assert assigned == assign(crowd, many(number), overlap=overlap, seed=seed)


def test_the_lot_depends_on_the_seed_and_meets_every_pair() -> None:
    crowd = make_crowd(GROUPS, "sentiment", seed=0)
    there = assign(crowd, many(200), overlap=2, seed=0)
    assert there != assign(crowd, many(200), overlap=2, seed=1)
    # No fixed teams: all ten pairs of five teachers meet.
    assert len({frozenset(t.name for t in teachers) for teachers in there}) == 10


def test_more_overlap_than_teachers_is_refused() -> None:
    crowd = make_crowd(GROUPS, "sentiment", seed=0)
    with pytest.raises(SettingsError, match="overlap 6 asks for more annotators than the 5"):
        assign(crowd, many(1), overlap=6, seed=0)


def test_questions_put_up_each_sample_where_it_belongs() -> None:
    one = replies("One?", "a", "b", "c")
    two = replies("Two?", "d", "e", "f", "g")
    mixed = [one[0], two[0], one[1], two[1], two[2], one[2], two[3]]
    items = make_items(mixed, ["comparison", "ranking", "rating", "demonstration"])

    def asked(kind: str) -> list[str]:
        return ["".join(s.text for s in item.samples) for item in items if item.kind == kind]

    assert asked("comparison") == ["ab", "ca", "de", "fg"]
    assert asked("ranking") == ["abc", "defg"]
    assert asked("rating") == list("abcdefg")
    assert asked("demonstration") == ["abc", "defg"]
    assert len(items) == 4 + 2 + 7 + 2


def test_questions_name_the_axis_of_their_kind() -> None:
    items = make_items(replies("One?", "a", "b"), ["good_bad", "safety_flag"])
    assert {(item.kind, item.axis) for item in items} == {
        ("good_bad", "overall"),
        ("safety_flag", "safe"),
    }


def asked_on(kinds: list[str], axes: list[str]) -> list[tuple[str, str | None]]:
    items = make_items(replies("One?", "a", "b"), kinds, axes)
    return [(item.kind, item.axis) for item in items]


def test_each_question_is_asked_on_each_axis() -> None:
    on = asked_on(["comparison", "rating"], ["helpful", "kind"])
    assert on == [
        ("comparison", "helpful"),
        ("comparison", "kind"),
        *[("rating", "helpful"), ("rating", "kind")] * 2,
    ]


def test_a_safety_flag_keeps_its_axis_and_spares_the_others_that_one() -> None:
    flags = [("safety_flag", "safe")] * 2
    both = asked_on(["comparison", "safety_flag"], ["overall", "safe"])
    assert both == [("comparison", "overall"), *flags]
    assert asked_on(["safety_flag"], ["overall", "safe"]) == flags
    assert asked_on(["comparison"], ["safe"]) == [("comparison", "safe")]
    assert asked_on(["comparison", "safety_flag"], ["safe"]) == [("comparison", "safe"), *flags]


def test_teachers_answer_on_the_axis_asked_and_err_on_each_anew() -> None:
    samples = [s for i in range(40) for s in replies(f"How is {i}?", "I love it.", "I like it.")]
    crowd = make_crowd([TeacherSettings(beta=0.0)], "sentiment", seed=0)
    found = ask_crowd(crowd, make_items(samples, ["comparison"], ["helpful", "kind"]), seed=0)
    chosen: dict[str, list[str]] = {"helpful": [], "kind": []}
    for entry in found.entries:
        chosen[entry.axis].append(entry.model_dump()["choice"])
    assert len(chosen["helpful"]) == len(chosen["kind"]) == 40
    assert chosen["helpful"] != chosen["kind"]


def test_replies_of_the_same_text_are_put_up_once() -> None:
    items = make_items(replies("One?", "a", "a", "a"), ["comparison", "ranking", "rating"])
    assert [(item.kind, len(item.samples)) for item in items] == [("rating", 1)]


def test_a_crowd_answers_every_kind_and_hands_over_what_it_wrote() -> None:
    samples = replies(
        "Is it raining?", "I love rain. I hate mud!", "Awful! It is great fun.", "No."
    )
    items = make_items(samples, list(KINDS))
    steps: list[int] = []
    found = ask_crowd(
        make_crowd(GROUPS, "sentiment", seed=1), items, overlap=2, seed=5, advance=steps.append
    )
    assert len(found.entries) + found.num_skipped == 2 * len(items)
    assert sum(steps) == len(items)
    assert {entry.model_dump()["kind"] for entry in found.entries} == set(KINDS)
    known = {s.id for s in samples} | {s.id for s in found.written}
    assert {i for entry in found.entries for i in entry.sample_ids} <= known
    assert len({s.id for s in found.written}) == len(found.written) > 0
    again = ask_crowd(make_crowd(GROUPS, "sentiment", seed=1), items, overlap=2, seed=5)
    assert [e.id for e in again.entries] == [e.id for e in found.entries]


def test_the_low_share_is_measured_over_all_items() -> None:
    gold = Gold("number", lambda s: float(s.text), "as written", scale=(0.0, 1.0))
    samples = replies("How many?", *(f"{i / 20}" for i in range(20)))
    crowd = make_crowd([TeacherSettings(count=2, skips=0.4)], gold, seed=0)
    found = ask_crowd(crowd, make_items(samples, ["good_bad"]), overlap=2, seed=0)
    assert found.num_skipped == 2 * 8
    assert {e.sample_ids[0] for e in found.entries} == {s.id for s in samples[8:]}


def test_careful_teachers_agree_with_the_measure_more_than_hasty_ones() -> None:
    texts = ["I love this.", "This is fine.", "It is there.", "This is a bit sad.", "I hate this."]
    items = [
        item
        for i in range(60)
        for item in make_items(
            replies(f"Nr {i}?", texts[i % 5], texts[(i + 1) % 5]), ["comparison"]
        )
    ]
    measure = find_gold("sentiment")

    def right(beta: float) -> float:
        crowd = make_crowd([TeacherSettings(beta=beta)], "sentiment", seed=0)
        entries = ask_crowd(crowd, items, seed=0).entries
        better = [int(measure(item.samples[1]) > measure(item.samples[0])) for item in items]
        hits = [e.choice == "ab"[b] for e, b in zip(entries, better, strict=True)]
        return sum(hits) / len(hits)

    assert right(40.0) > right(2.0) > 0.5
