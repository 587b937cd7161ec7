"""What an entry says of pairs of samples, for measures that look at pairs only."""

from itertools import combinations

from backflip.records.feedback import (
    Comparison,
    Correction,
    Demonstration,
    FeedbackBase,
    Implicit,
    Ranking,
)

_WORDS = {
    "good_bad": "good or bad answer",
    "implicit": "implicit sign",
    "safety_flag": "safety flag",
}


def preferred_pairs(entry: FeedbackBase) -> list[tuple[str, str]]:
    """Every `(preferred, other)` pair of sample ids that an entry decides.

    Ties decide nothing, and kinds that speak of one sample alone decide nothing. A ranking of K
    samples decides up to K(K-1)/2 pairs that are one answer: weigh them as one.
    """
    match entry:
        case Comparison(samples=(a, b), choice="a"):
            return [(a, b)]
        case Comparison(samples=(a, b), choice="b"):
            return [(b, a)]
        case Ranking():
            ranked = zip(entry.samples, entry.ranks, strict=True)
            return [
                (a, b) if rank_a < rank_b else (b, a)
                for (a, rank_a), (b, rank_b) in combinations(ranked, 2)
                if rank_a != rank_b
            ]
        case Correction():
            return [(entry.corrected, entry.sample)]
        case Demonstration():
            return [(entry.sample, other) for other in entry.over]
        case Implicit(over=str(other)):
            return [(entry.sample, other) if entry.positive else (other, entry.sample)]
        case _:
            return []


def undecided_as(entry: FeedbackBase) -> str:
    """What to call an entry that decides no pair, in the singular: "tie", "both bad", "rating"."""
    match entry:
        case Comparison():
            return entry.choice.replace("_", " ")
        case Ranking():
            return "tied ranking"
        case _:
            kind = type(entry).model_fields["kind"].default
            return _WORDS.get(kind) or str(kind)
