"""The summary of a run for the terminal."""

from typing import Any

from backflip.evaluation.holding import holding_lines
from backflip.evaluation.report.gather import Facts, Round, gather
from backflip.evaluation.verdict import (
    chance_of,
    doubt_of_feedback,
    doubt_of_reward,
    judge_line,
    proxy_line,
    win_line,
    win_rate_of,
)
from backflip.evaluation.verdict import headline as say_headline
from backflip.plain_text import counted
from backflip.records.figures import RewardReport
from backflip.records.results import FeedbackResult
from backflip.workspace import Workspace

IMPORT = "import:"
_SOURCES = {
    "teachers": "simulated annotators",
    "people": "people",
    "judge": "a judge, which is a language model",
}


def summary(workspace: Workspace, run_id: str) -> str:
    """A few lines: whether it is better, what to doubt, and what each round came to."""
    facts = gather(workspace, run_id)
    lines = [f"Run {facts.name} ({facts.run}), {facts.status}"]
    if facts.gold is not None:
        lines.append(f"Gold: {facts.gold}")
    lines += ["", headline(facts), *doubts(facts)]
    for number in facts.rounds:
        lines += ["", f"Round {number.number}", *(f"  {line}" for line in round_lines(number))]
    return "\n".join(lines)


def annotators(told: FeedbackResult) -> str:
    """From how many annotators a round's feedback is, that of rounds before included."""
    return counted(len(told.annotators), "annotator")


def round_lines(number: Round) -> list[str]:
    """What a round came to, a line for each stage that is done."""
    lines: list[str] = []
    if told := number.feedback:
        lines.append(
            f"feedback      {told.new_entries} new entries, {told.skipped} skipped; "
            f"{told.entries} in all from {annotators(told)}"
        )
        lines += [f"{'':<13} {line}" for line in holding_lines(told.holds or {})]
    for axis, report in number.reports.items():
        lines.append(f"reward model  {axis}: {accuracy_line(report)}")
    if (done := number.evaluation) is not None:
        lines.append(f"win rate      {win_line(done) or 'not known: nobody judged'}")
        if said := judge_line(done):
            lines.append(f"judge         {said}")
        if proxy := proxy_line(done):
            lines.append(f"proxy         {proxy}")
        kl = done.kl
        lines.append(f"KL            {kl.value:.2f} [{kl.low:.2f}, {kl.high:.2f}] nats a sample")
        for name, sides in done.means.items():
            lines.append(f"{name:<13} {sides.before:.3f} before, {sides.after:.3f} after")
    lines += [f"flagged       {flag} grew beyond its limit" for flag in number.flags]
    return lines


def accuracy_line(report: RewardReport) -> str:
    """Held-out accuracy and calibration of a reward model in words."""
    accuracy, calibrated, chance = report.accuracy, report.calibration, chance_of(report)
    if accuracy is None or calibrated is None:
        if chance is None:
            return f"{report.heldout} held-out entries, none of which tells samples apart"
        return (
            f"right on {chance.value:.1%} [{chance.low:.1%}, {chance.high:.1%}] of "
            f"{chance.count:.0f} held-out {chance.of}"
        )
    overall, gold = accuracy.overall, report.gold
    line = (
        f"right on {overall.value:.1%} [{overall.low:.1%}, {overall.high:.1%}] of "
        f"{overall.count:.0f} held-out pairs, calibration error {calibrated.error:.3f}"
    )
    if gold and gold.accuracy:
        line += f"; gold itself is right on {gold.accuracy.value:.1%} of them"
    if gold and gold.correlation is not None:
        line += f", rank correlation with it {gold.correlation:.2f}"
    return line


def headline(facts: Facts) -> str:
    """Whether the last policy is better, by whose word; or how to have it judged."""
    last = facts.last
    if last is None or last.evaluation is None:
        return "No round has been evaluated yet."
    told = say_headline(last.evaluation, rounds=last.number)
    if win_rate_of(last.evaluation) is not None:
        return told
    return f"{told} {_how_to_judge(facts.recipe)}"


def _how_to_judge(recipe: dict[str, Any]) -> str:
    if str(recipe.get("prompts", {}).get("source", "")).startswith("env:"):
        return "Backflip has no way yet to have clips of two policies compared: watch them."
    return (
        "Have people compare the two models in the playground (backflip serve) and write the "
        "report again (backflip report), or give the recipe a judge (feedback.judge)."
    )


def doubts(facts: Facts) -> list[str]:
    """What a reader must know before any figure: where nothing was learned, or may have been."""
    found: list[str] = []
    for number in facts.rounds:
        told = [doubt_of_feedback(number.feedback) if number.feedback else None]
        for axis, report in number.reports.items():
            told.append(doubt_of_reward(axis, report))
        found += [f"Round {number.number}: {doubt}." for doubt in told if doubt is not None]
    return found


def sources(facts: Facts) -> str:
    """Whose answers the last round learned from, and what gold is, where there is any."""
    told = [
        f"{_SOURCES.get(origin, f'the file {origin.removeprefix(IMPORT)}')} ({number})"
        for origin, number in facts.origins.items()
    ]
    asked = _SOURCES[facts.recipe["feedback"]["source"]]
    line = f"Answers came from {', '.join(told)}." if told else f"Answers come from {asked}."
    if facts.gold is None:
        return f"{line} There is no gold measure."
    return (
        f"{line} Gold is {facts.gold}. The simulated annotators judge by it, with faults; the "
        "reward model learns only from answers, and the policy only from the reward model."
    )
