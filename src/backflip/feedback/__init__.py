"""Who is asked, and about what: simulated annotators, gold measures, query selection."""

from backflip.feedback.gold import (
    GOLDS,
    Gold,
    describe_gold,
    environment_gold,
    find_gold,
    sentiment_gold,
)
from backflip.feedback.teachers import (
    CrowdAnswers,
    GoldPool,
    Item,
    Teacher,
    TeacherAnswer,
    ask_crowd,
    assign,
    make_crowd,
    make_items,
)

__all__ = [
    "GOLDS",
    "CrowdAnswers",
    "Gold",
    "GoldPool",
    "Item",
    "Teacher",
    "TeacherAnswer",
    "ask_crowd",
    "assign",
    "describe_gold",
    "environment_gold",
    "find_gold",
    "make_crowd",
    "make_items",
    "sentiment_gold",
]
