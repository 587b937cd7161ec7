"""What an entry says of pairs of samples, for measures that look at pairs only."""

from backflip.records.feedback import FeedbackBase


def preferred_pairs(entry: FeedbackBase) -> list[tuple[str, str]]:
    """Every `(preferred, other)` pair of sample ids that an entry decides.

    Ties decide nothing, and kinds that speak of one sample alone decide nothing. A ranking of K
    samples decides up to K(K-1)/2 pairs that are one answer: weigh them as one.
    """
    return entry.preferred_pairs()


def undecided_as(entry: FeedbackBase) -> str:
    """What to call an entry that decides no pair, in the singular: "tie", "both bad", "rating"."""
    return entry.undecided_as()
