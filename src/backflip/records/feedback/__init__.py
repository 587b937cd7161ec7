"""The kinds of feedback: one record a kind, no torch.

Each kind is a choice that a noisily rational annotator made from a set of options (Jeon, Milli,
Dragan 2020, "Reward-rational (implicit) choice"). The record says what was chosen; the likelihood
of that choice stands in `losses/choice.py` and how a person makes it in the form that shows it.
A record never holds text of a sample, only its id: a correction's or demonstration's text is a
sample of its own, which a person wrote.

    vote = Comparison(annotator="mia", samples=("sample-1", "sample-2"), choice="a", strength=2)
    vote.swap() == Comparison(annotator="mia", samples=("sample-2", "sample-1"), choice="b", ...)
"""

# isort: off
# In this order the kinds are listed wherever a person reads of them.
from backflip.records.feedback.comparison import Comparison
from backflip.records.feedback.ranking import Ranking
from backflip.records.feedback.rating import Rating
from backflip.records.feedback.good_bad import GoodBad
from backflip.records.feedback.correction import Correction
from backflip.records.feedback.demonstration import Demonstration
from backflip.records.feedback.critique import Critique
from backflip.records.feedback.safety_flag import SafetyFlag
from backflip.records.feedback.implicit import Implicit

# isort: on
from backflip.records.feedback.base import (
    DAMAGED,
    ERASED,
    GENERAL_AXIS,
    KINDS,
    WRITTEN_KINDS,
    FeedbackBase,
    SampleId,
    Span,
    parse_feedback,
)
from backflip.records.feedback.question import (
    UNKNOWN,
    Judgement,
    Option,
    Question,
    Value,
    Values,
)

__all__ = [
    "DAMAGED",
    "ERASED",
    "GENERAL_AXIS",
    "KINDS",
    "UNKNOWN",
    "WRITTEN_KINDS",
    "Comparison",
    "Correction",
    "Critique",
    "Demonstration",
    "FeedbackBase",
    "GoodBad",
    "Implicit",
    "Judgement",
    "Option",
    "Question",
    "Ranking",
    "Rating",
    "SafetyFlag",
    "SampleId",
    "Span",
    "Value",
    "Values",
    "parse_feedback",
]
