"""Whether a policy is better, in words: the one place that says so, or that nobody knows.

The reward that a policy was trained on never decides. It is what training raised, so its word that
the policy is better holds also where it learned nothing (Gao, Schulman & Hilton 2023, "Scaling Laws
for Reward Model Overoptimization"). A verdict rests on a gold measure, a judge or people.
"""

from backflip.evaluation.holding import holding_lines, tells_apart
from backflip.records.figures import KeptChance, KeptInterval, RewardReport
from backflip.records.results import EvaluationResult, FeedbackResult

JUDGES = ("gold", "judge", "people")
"""Who may say that a policy is better."""
ORDER_ALONE = 0.9
"""Share of a judge's choices from which on they may come of the order alone."""
MIN_ANSWERS = 6
"""Held-out answers or prompts below which nothing is said to be better or worse: of fewer, a coin
is right on all in more than 1 of 40 cases."""


def win_rate_of(evaluation: EvaluationResult) -> KeptInterval | None:
    """The win rate that somebody judged; None where nobody did.

    Results of earlier versions name the reward as the one that judged; that was no judgement.
    """
    return evaluation.win_rate if evaluation.judged_by in JUDGES else None


def preference_of_reward(evaluation: EvaluationResult) -> KeptInterval | None:
    """How often the reward that was optimised prefers the policy's samples; None if unknown."""
    if evaluation.judged_by == "reward":
        return evaluation.win_rate
    return evaluation.reward_prefers


def headline(evaluation: EvaluationResult, *, rounds: int = 0) -> str:
    """Whether the policy is better than the one it is held against, by whose word.

    Args:
        evaluation: the result of the stage.
        rounds: that the policy was trained for, from the model it is held against; 0: whatever
            that model is.
    """
    win = win_rate_of(evaluation)
    if win is None:
        of = f" of round {rounds}" if rounds else ""
        return f"Nobody has judged the policy{of} yet: whether it is better is not known."
    after = f"After {rounds} round{'s' * (rounds > 1)} the" if rounds else "The"
    side = _side(win, _judged_on(evaluation))
    verdict = f"is {side} than" if side else "cannot be told apart from"
    other = "starting model" if rounds else "model that it is held against"
    return (
        f"{after} policy {verdict} the {other}, by {_who(evaluation)}: it wins "
        f"{win.value:.1%} of {_where(evaluation)} (interval {win.low:.1%} to "
        f"{win.high:.1%}){_if_few(_judged_on(evaluation))}.{_turned(evaluation)}"
    )


def proxy_line(evaluation: EvaluationResult) -> str | None:
    """What the optimised reward prefers, said as what it is; None where it was not asked."""
    prefers = preference_of_reward(evaluation)
    if prefers is None:
        return None
    return (
        f"the reward model that was optimised prefers the policy in {prefers.value:.1%} "
        f"[{prefers.low:.1%}, {prefers.high:.1%}]: no verdict"
    )


def win_line(evaluation: EvaluationResult) -> str | None:
    """The win rate and whose word it is; None where nobody judged."""
    win = win_rate_of(evaluation)
    if win is None:
        return None
    return (
        f"{win.value:.1%} [{win.low:.1%}, {win.high:.1%}] by {_who(evaluation)}, against "
        f"the starting model, on {_where(evaluation)}{_if_few(_judged_on(evaluation))}"
    )


def judge_line(evaluation: EvaluationResult) -> str | None:
    """What the judge said of how many pairs; None where none was asked."""
    said = evaluation.judge
    if said is None:
        return None
    counts = [
        (said.policy, "for the policy"),
        (said.start, "for the starting model"),
        (said.tie, "a tie"),
        (said.both_bad, "both bad"),
        (said.turned, "turned with the order"),
        (said.same, "word for word the same"),
        (said.unanswered, "without an answer"),
    ]
    told = ", ".join(f"{number} {what}" for number, what in counts if number)
    return f"{said.name} on {said.pairs} pairs: {told}"


def doubt_of_reward(axis: str, report: RewardReport) -> str | None:
    """What to say of a reward model that is not shown to beat chance; None for one that is.

    Args:
        axis: that it was trained on.
        report: of its training.
    """
    chance = chance_of(report)
    of = "" if axis == "overall" else f" of {axis!r}"
    doubt = f"the reward model{of} is not shown to beat chance"
    if chance is None:
        return (
            f"{doubt}: none of {report.heldout} held-out answers tells two samples of one "
            "prompt apart"
        )
    if _side(chance, chance.count) == "better":
        return None
    return (
        f"{doubt}: {chance.value:.0%} [{chance.low:.0%}, {chance.high:.0%}] of "
        f"{chance.count:.0f} held-out {chance.of}{_if_few(chance.count)}"
    )


def chance_of(report: RewardReport) -> KeptChance | None:
    """What a reward model's accuracy is held against one half by; see `reward_report`."""
    if "chance" in report.model_fields_set:
        return report.chance
    accuracy = report.accuracy  # of an earlier version
    return KeptChance(**dict(accuracy.overall), of="pairs") if accuracy else None


def doubt_of_feedback(told: FeedbackResult) -> str | None:
    """What to say of a round whose answers tell nothing apart, or only in which order the replies
    were read; None where they tell more or what they tell is not known.

    Args:
        told: the result of the round's feedback.
    """
    held, order = told.holds, told.order
    if held and not tells_apart(held):
        return f"no answer tells two samples apart: {'; '.join(holding_lines(held))}"
    if order is None or order.decided < MIN_ANSWERS:
        return None
    for of, number in (("first", order.first), ("last", order.decided - order.first)):
        if number >= ORDER_ALONE * order.decided:
            return (
                f"the judge chose the reply that it read {of} in {number} of the "
                f"{order.decided} pairs in which it chose one: its answers may say no more "
                "than that (feedback.judge.both_orders asks in both)"
            )
    return None


def _who(evaluation: EvaluationResult) -> str:
    if evaluation.judged_by == "judge" and evaluation.judge:
        return f"the judge {evaluation.judge.name.removeprefix('judge:')}"
    if evaluation.judged_by == "people" and evaluation.people:
        number = evaluation.people.annotators
        return "one person" if number == 1 else f"{number} people"
    return "the gold measure"


def _side(share: KeptInterval, count: float) -> str | None:
    """Whether a share of so many answers is shown to be "better" or "worse" than one half."""
    if count < MIN_ANSWERS:
        return None
    return "better" if share.low > 0.5 else "worse" if share.high < 0.5 else None


def _if_few(count: float) -> str:
    """What to add to a share of answers that are too few for any side; nothing otherwise."""
    return ", too few to tell" if count < MIN_ANSWERS else ""


def _judged_on(evaluation: EvaluationResult) -> int:
    """The number of prompts that the win rate is of."""
    if evaluation.judged_by == "judge" and evaluation.judge:
        return evaluation.judge.prompts
    if evaluation.judged_by == "people" and evaluation.people:
        return evaluation.people.prompts
    return evaluation.prompts


def _where(evaluation: EvaluationResult) -> str:
    """On how many of which prompts it was judged."""
    number = _judged_on(evaluation)
    if evaluation.judged_by == "people":
        return f"{number} prompts that nothing was trained on"
    return f"{number} held-out prompts"


def _turned(evaluation: EvaluationResult) -> str:
    """A warning where the judge's verdicts hang on the order."""
    said = evaluation.judge
    if said is None or evaluation.judged_by != "judge" or not said.turned:
        return ""
    return (
        f" Its verdict turned with the order on {said.turned} of {said.pairs} pairs, which "
        "count as ties."
    )
