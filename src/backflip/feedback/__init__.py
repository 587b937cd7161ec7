"""Feedback: its kinds, simulated annotators, judges, the store, and how far people agree.

The store stands in `backflip.feedback.store`, file formats in `backflip.feedback.formats`, the
judge in `backflip.feedback.judge` and the terminal labeller in `backflip.feedback.terminal`;
they are imported from there, because each brings a library that most callers do without.
"""

from backflip.feedback.agreement import (
    Agreement,
    krippendorff_alpha,
    measure_agreement,
    raw_agreement,
)
from backflip.feedback.gold import (
    GOLDS,
    Gold,
    describe_gold,
    environment_gold,
    find_gold,
    sentiment_gold,
)
from backflip.feedback.kinds import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    Feedback,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
    parse_feedback,
)
from backflip.feedback.teachers import (
    Answer,
    CrowdAnswers,
    GoldPool,
    Item,
    Teacher,
    ask_crowd,
    assign,
    make_crowd,
    make_items,
)

__all__ = [
    "GOLDS",
    "KINDS",
    "Agreement",
    "Answer",
    "Comparison",
    "Correction",
    "Critique",
    "CrowdAnswers",
    "Demonstration",
    "Feedback",
    "FeedbackBase",
    "Gold",
    "GoldPool",
    "GoodBad",
    "Implicit",
    "Item",
    "Ranking",
    "Rating",
    "SafetyFlag",
    "Teacher",
    "ask_crowd",
    "assign",
    "describe_gold",
    "environment_gold",
    "find_gold",
    "krippendorff_alpha",
    "make_crowd",
    "make_items",
    "measure_agreement",
    "parse_feedback",
    "raw_agreement",
    "sentiment_gold",
]
