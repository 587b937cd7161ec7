"""What feedback holds: how many answers tell samples apart, and what the others say instead.

    holdings(entries)      # {"comparison": {"decides": 12, "tie": 3, "turned": 65}}

Where none tells two samples apart, whatever is trained on them is trained on nothing.
"""

from collections.abc import Iterable, Mapping

from backflip.judging.prompts import TURNED
from backflip.records.feedback import Comparison, FeedbackBase

Holdings = Mapping[str, Mapping[str, int]]
"""Answers by kind, and by what they come to (see `outcome`)."""

DECIDES = "decides"
NOTHING = "nothing"
_UNDECIDED = {
    "tie": "tied",
    "turned": "turned with the order",
    "both_bad": "both bad",
    NOTHING: "say nothing yet",
}


def outcome(entry: FeedbackBase) -> str:
    """What an entry comes to: that it "decides" a pair, a word for why not, or its level.

    The words are "tie", "turned" (a judge's verdict that changed with the order), "both_bad" and
    "nothing"; levels are those of `FeedbackBase.level_said`.
    """
    if entry.preferred_pairs():
        return DECIDES
    if level := entry.level_said():
        return level[0]
    if tied := entry.tied_as():
        return "turned" if tied == "tie" and TURNED in entry.tags else tied
    return NOTHING


def holdings(entries: Iterable[FeedbackBase]) -> dict[str, dict[str, int]]:
    """How many of the entries of each kind come to what; see `outcome`."""
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        counts, word = found.setdefault(entry.kind_name(), {}), outcome(entry)
        counts[word] = counts.get(word, 0) + 1
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(found.items())}


def order_of(entries: Iterable[FeedbackBase]) -> dict[str, int]:
    """How many comparisons of a judge that read them in one order chose a reply, and how many of
    them the one that it read "first".
    """
    decided = [
        entry
        for entry in entries
        if isinstance(entry, Comparison)
        and entry.origin == "judge"
        and entry.shown is not None
        and entry.choice in ("a", "b")
    ]
    first = sum(entry.shown == ((0, 1) if entry.choice == "a" else (1, 0)) for entry in decided)
    return {"decided": len(decided), "first": first}


def tells_apart(held: Holdings) -> bool:
    """Whether any two samples are told apart: a pair is decided, or two levels of a kind differ."""
    return any(
        DECIDES in counts or len(counts.keys() - _UNDECIDED.keys()) > 1 for counts in held.values()
    )


def holding_lines(held: Holdings) -> list[str]:
    """A line for each kind: "80 comparison answers: 12 decide a pair, 68 turned with the order"."""
    return [
        f"{sum(counts.values())} {kind} answers: {', '.join(_told(counts))}"
        for kind, counts in held.items()
    ]


def _told(counts: Mapping[str, int]) -> list[str]:
    levels = {word: n for word, n in counts.items() if word not in {DECIDES, *_UNDECIDED}}
    told = [f"{word} ({n})" for word, n in levels.items()]
    if not levels or DECIDES in counts:
        told.insert(0, f"{counts.get(DECIDES, 0) or 'none'} decide a pair")
    return told + [
        f"{counts[word]} {words}" for word, words in _UNDECIDED.items() if word in counts
    ]
