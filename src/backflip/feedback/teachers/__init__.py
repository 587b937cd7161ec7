"""Simulated annotators with the faults of people."""

from backflip.feedback.teachers.crowd import (
    CrowdAnswers,
    Item,
    ask_crowd,
    assign,
    distinct_by_prompt,
    make_crowd,
    make_items,
)
from backflip.feedback.teachers.scale import GoldPool
from backflip.feedback.teachers.teacher import Answer, Teacher

__all__ = [
    "Answer",
    "CrowdAnswers",
    "GoldPool",
    "Item",
    "Teacher",
    "ask_crowd",
    "assign",
    "distinct_by_prompt",
    "make_crowd",
    "make_items",
]
