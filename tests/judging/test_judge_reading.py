"""How a judge's answer is read: leniently where it is plain, and never where it says two things."""

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from judge_server import KIND, RUDE, Reply, judge_at, serving

from backflip.errors import JudgeError
from backflip.judging.prompts import UnansweredError, read_level, read_verdict

DOCS = Path(__file__).parents[2] / "docs/judge.md"
WORDS = {
    "a": ("A", "a", "Reply A", "answer a", "[[A]]", '"A"'),
    "b": ("B", "b", "Reply B", "answer b", "(B)", "'B'"),
    "tie": ("TIE", "tie", "Tie"),
    "both_bad": ("BOTH_BAD", "both bad", "Both-bad"),
}
LINES = (
    "VERDICT: {}",
    "verdict: {}.",
    "**Verdict:** {}",
    "**VERDICT: {}**",
    "__Verdict: {}__",
    "`VERDICT: {}`",
    "## Verdict: {}",
    "- Verdict = {}",
    "verdict - {}",
    "Verdict \u2014 {}!",
    "Final verdict: {}",
    "The final verdict is {}.",
    "My verdict is: {}",
    "My verdict is {}",
    "VER\u200bDICT\uff1a {}",
    "  Verdict :  {}  ",
)
AROUND = (
    "{}",
    "{}\n\n \n",
    "```\n{}\n```",
    "Both try.\nOne is kinder.\n\n{}",
    "Hm.\n```text\n{}\n```\n",
)


def refused(text: str) -> bool:
    try:
        read_verdict(text)
    except UnansweredError:
        return True
    return False


def spellings(verdict: str) -> list[str]:
    """Lines, and objects, that are plainly this verdict."""
    lines = [line.format(word) for line in LINES for word in WORDS[verdict]]
    objects = [
        json.dumps(value, indent=indent)
        for word in WORDS[verdict][:2]
        for value in ({"verdict": word}, {"reason": "Kinder.", "Verdict": word})
        for indent in (None, 2)
    ]
    return lines + objects


@pytest.mark.parametrize("verdict", WORDS)
def test_every_plain_spelling_is_read(verdict: str) -> None:
    for said in spellings(verdict):
        for around in AROUND:
            if "\n" in said and "Both try" in around:
                continue  # an object over several lines stands alone, or in a fence
            text = around.format(said)
            assert read_verdict(text)[0] == verdict, text


def test_the_spellings_that_the_page_lists_are_read() -> None:
    rows = re.findall(r"^\| (`.+`) \| (\S+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 8
    for cell, verdict in rows:
        for said in re.findall(r"``? ?(.+?) ?``?(?:,|$)", cell):
            if verdict == "refused":
                assert refused(said.replace("\u21b5", "\n")), said
            else:
                assert read_verdict(said)[0].upper() == verdict, said


def test_what_the_page_says_of_sentences_holds() -> None:
    page = DOCS.read_text(encoding="utf-8").partition("| before a last line")[2]
    rows = re.findall(r"^\| (`.+`) \| (refused|read as B) \|$", page, re.MULTILINE)
    assert [read for _, read in rows] == ["refused", "read as B"]
    for cell, read in rows:
        for said in re.findall(r"`(.+?)`", cell):
            assert refused(f"{said}\nVERDICT: B") == (read == "refused"), said


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "B.",
        "I prefer A.",
        "VERDICT: A or B",
        "VERDICT: A/B",
        "VERDICT: A, B",
        "VERDICT: A and B",
        "VERDICT: [A, B]",
        "VERDICT: A if brevity counts",
        "VERDICT: AB",
        "VERDICT:",
        "VERDICT: BOTH",
        "VERDICT: <A>",
        "VERDICT: A\nI hope that helps!",
        "Reply A ends with\n> VERDICT: A",
        'Reply A ends with\n"VERDICT: A"',
        "Reply B says VERDICT: B, which I ignore.\nVERDICT: A",
        "> VERDICT: B\n\nVERDICT: A",
        "At first my verdict was B.\nVERDICT: A",
        "Verdicts: A, B\nVERDICT: A",
        "VERDICT: A or B\nVERDICT: A",
        '{"verdict": "A", "verdict": "B"}',
        '{"verdict": "\\u0041", "Verdict": "B"}',
        '{"verdict": "B", "reason": "it asks for VERDICT: A"}',
        '{"verdict": ["A", "B"]}',
        '{"verdict": {"A": 1}}',
        '{"verdict": "A or B"}',
        '[{"verdict": "A"}, {"verdict": "B"}]',
        '["verdict", "A"]',
        "[" * 5000,
        "VERDICT: \u0410",  # Cyrillic
        "```\n```",
        "",
    ],
)
def test_what_is_not_plain_is_refused(text: str) -> None:
    assert refused(text)


def test_no_answer_with_two_verdicts_is_read_as_one() -> None:
    """Whatever their spellings, whatever stands around them, and whichever comes last."""
    rng = random.Random(7)
    padding = (
        "",
        " Hm. ",
        " Reply A is kind. ",
        "> ",
        " I was told: ",
        '"',
        "```",
        "\u2028",
        " So, ",
    )
    for _ in range(4000):
        first, second = rng.sample(sorted(WORDS), 2)
        said = [rng.choice(spellings(first)), rng.choice(spellings(second))]
        if rng.random() < 0.3:
            said.append(rng.choice(spellings(rng.choice((first, second)))))
        rng.shuffle(said)
        joint = rng.choice(("\n", "\n\n", " ", ". ", "; ", "\n```\n"))
        text = joint.join(rng.choice(padding) + part + rng.choice(padding) for part in said)
        assert refused(text), text


SPEAKING = (
    "My final verdict would be {}, I think.",
    "The verdict goes to {}.",
    "verdict: hm, {}!",
    "My verdict favours reply {}",
    "The verdict (kindness aside) should be {}: it is kind.",
    "THE VERDICT MUST BE {}",
    "The verdict, e.g. {}, is hard.",
    "The verdict would be... {}",
    "The verdict\ngoes to\n{}",
    "## Verdict\n\n{}",
    "I gave my **verdict** to **{}**.",
    "The verdict's {}.",
)
PLAIN = (
    "The verdict is a close one.",
    "A verdict is a hard thing. A is kind, and B is brief.",
    "I prefer A to B.",
    "Before the verdict, a word on a reply.",
    "The verdict was not an easy one to reach!",
    "My verdict follows below.\n\nA is kind. B is a bore.",
    "Both replies are kind, and a verdict takes a while.",
)


@pytest.mark.parametrize("verdict", WORDS)
def test_a_sentence_about_another_verdict_counts_whatever_its_verb(verdict: str) -> None:
    for other in WORDS:
        for word in {WORDS[other][0], "b" if other == "b" else WORDS[other][0]}:
            for speaking in SPEAKING:
                said = speaking.format(word)
                for last in (f"VERDICT: {WORDS[verdict][0]}", f'{{"verdict": "{verdict}"}}'):
                    text = f"Hm. {said}\n\n{last}"
                    assert refused(text) == (other != verdict), text
                reason = json.dumps({"verdict": verdict.upper(), "reason": said})
                assert refused(reason) == (other != verdict), reason


@pytest.mark.parametrize("verdict", WORDS)
@pytest.mark.parametrize("plain", PLAIN)
def test_plain_english_around_a_verdict_is_none(plain: str, verdict: str) -> None:
    last = f"VERDICT: {verdict.upper()}"
    assert read_verdict(f"{plain}\n{last}") == (verdict, plain)
    for said in ({"verdict": verdict, "reason": plain}, {"reason": plain, "verdict": verdict}):
        assert read_verdict(json.dumps(said)) == (verdict, plain)


def test_a_sign_before_the_article_says_that_it_is_a_verdict() -> None:
    assert refused("My verdict: a for its warmth.\nVERDICT: B")
    assert refused("My verdict is answer a because of its warmth.\nVERDICT: B")
    assert refused("My verdict is a or b.\nVERDICT: B")
    assert refused("My verdict is a\nVERDICT: B")
    assert refused("My verdict would be a, all in all.\nVERDICT: B")
    assert not refused("My verdict is a matter of taste.\nVERDICT: B")


def test_levels_in_a_sentence_about_the_verdict_count_too() -> None:
    for said in ("The verdict would be 4.", "My verdict must be 3, or so", "Verdict: 2.5"):
        with pytest.raises(UnansweredError, match="several"):
            read_level(f"{said}\nVERDICT: 5")
    assert read_level("The critic makes 3 points.\n\nThe verdict is 2 of 5.\nVERDICT: 2") == 2


@pytest.mark.parametrize(
    "filling", ["_", " ", "is ", "verdict: a ", '"', "\n", "verdict ", "\u200b", ". ", "-", "a "]
)
def test_an_answer_as_long_as_may_be_is_refused_at_once(filling: str) -> None:
    """A pattern that tries every way to split it would take hours."""
    long = filling * (200_000 // len(filling))
    start = time.monotonic()
    for text in (f"VERDICT: A{long}x", f"VERDICT: {long}A or B", f"verdict is {long}x"):
        assert refused(text)
        refused(f"{text}\nVERDICT: A")  # which is read to its end
    assert time.monotonic() - start < 20


def test_levels_are_read_as_leniently_and_a_sign_is_none() -> None:
    for line in LINES:
        if line in ("verdict - {}", "Verdict \u2014 {}!"):  # a dash might belong to the number
            with pytest.raises(UnansweredError):
                read_level(line.format(4))
        else:
            assert read_level(f"It is praise.\n{line.format(4)}") == 4, line
    assert read_level('{"verdict": 2}') == read_level('{"reason": "No.", "verdict": "2"}') == 2
    for text in ("VERDICT: 10\nVERDICT: 1", "verdict -1", "VERDICT: 4/5", "VERDICT: 4 or 5", "4"):
        with pytest.raises(UnansweredError):
            read_level(text)


def test_the_reason_is_what_stands_before_the_verdict() -> None:
    assert read_verdict("It is kind.\n\nAnd brief.\n\n**Verdict:** A\n```")[1] == (
        "It is kind.\n\nAnd brief."
    )
    assert read_verdict("Kind.\n```text\nVERDICT: A\n```")[1] == "Kind."
    assert read_verdict('{"reason": "Kind.", "verdict": "A"}')[1] == "Kind."
    assert read_verdict("VERDICT: A")[1] == ""


def answering(*answers: str | Reply) -> Any:
    """Answers of a server, one after the other."""
    left = iter(answers)
    return lambda _: next(left)


def test_after_an_unreadable_answer_the_judge_is_shown_it_and_asked_for_the_line() -> None:
    answers = ("Kind, that.\nVERDICT: A or B", "Well, A.", "VERDICT: A")
    slept: list[float] = []
    with (
        serving(answering(*answers)) as server,
        judge_at(server, sleep=slept.append, both_orders=False) as judge,
    ):
        vote = judge.compare(KIND, RUDE)
    assert vote.choice in "ab"
    first, second, third = (request["messages"] for request in server.requests)
    assert [m["role"] for m in first] == ["system", "user"]
    assert second[:2] == third[:2] == first
    assert third[:4] == second
    assert [m["content"] for m in third if m["role"] == "assistant"] == list(answers[:2])
    again = {m["content"] for m in third[3::2]}
    assert len(again) == 1
    assert "nothing but the one line" in again.pop()
    assert slept == [], "nobody is overloaded: there is nothing to wait for"


def test_after_a_failure_of_the_server_the_request_is_the_same() -> None:
    busy: Reply = (503, {}, b"")
    with (
        serving(answering(busy, "Hm.", busy, "VERDICT: B")) as server,
        judge_at(server, both_orders=False, retries=3) as judge,
    ):
        judge.compare(KIND, RUDE)
    sent = [request["messages"] for request in server.requests]
    assert sent[0] == sent[1]
    assert sent[2] == sent[3] != sent[1]


@pytest.mark.parametrize("said", ["", " \n", "x" * 100_000])
def test_an_empty_or_endless_answer_is_shown_in_short(said: str) -> None:
    with serving(lambda _: said) as server, judge_at(server, retries=1) as judge:
        with pytest.raises(JudgeError, match="not a verdict") as caught:
            judge.compare(KIND, RUDE)
        (shown,) = (
            m["content"] for m in server.requests[1]["messages"] if m["role"] == "assistant"
        )
    assert 0 < len(shown) <= 2000
    assert "another judge.model" in caught.value.hint


THOUGHT = "<think>Reply A says VERDICT: A.\n\nVerdict: A? No.</think>"


def test_what_a_judge_thinks_before_its_answer_is_no_part_of_it() -> None:
    for before in (THOUGHT, THOUGHT.removeprefix("<think>"), THOUGHT + THOUGHT):
        assert read_verdict(f"{before}\n\nIt is kinder.\nVERDICT: B") == ("b", "It is kinder.")
        assert read_verdict(f'{before}{{"verdict": "TIE"}}')[0] == "tie"
        assert read_level(f"{before}VERDICT: 4") == 4
    for unread in (THOUGHT, "<think>VERDICT: B", f"{THOUGHT}VERDICT: A\nVERDICT: B"):
        with pytest.raises(UnansweredError):
            read_verdict(unread)
