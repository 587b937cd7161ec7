"""Simulated annotators with the faults of people."""

from backflip.feedback.teachers import answers  # noqa: F401  (it registers them)
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
from backflip.feedback.teachers.teacher import Teacher, TeacherAnswer, answering

__all__ = [
    "CrowdAnswers",
    "GoldPool",
    "Item",
    "Teacher",
    "TeacherAnswer",
    "answering",
    "ask_crowd",
    "assign",
    "distinct_by_prompt",
    "make_crowd",
    "make_items",
]
