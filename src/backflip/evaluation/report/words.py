"""The summary of a run for the terminal."""

from typing import Any

from backflip.evaluation.report.gather import Facts, Round, gather
from backflip.feedback.store import Workspace


def summary(workspace: Workspace, run_id: str) -> str:
    """A few lines: each round's win rate, distance, lengths, and the reward model's accuracy."""
    facts = gather(workspace, run_id)
    lines = [f"Run {facts.name} ({facts.run}), {facts.status}"]
    if facts.gold is not None:
        lines.append(f"Gold: {facts.gold}")
    if not facts.rounds:
        lines += ["", headline(facts)]
    for number in facts.rounds:
        lines += ["", f"Round {number.number}", *(f"  {line}" for line in round_lines(number))]
    return "\n".join(lines)


def round_lines(number: Round) -> list[str]:
    """What a round came to, a line for each stage that is done."""
    lines: list[str] = []
    if told := number.feedback:
        lines.append(
            f"feedback      {told['new_entries']} new entries from {len(told['annotators'])} "
            f"annotators, {told['skipped']} skipped"
        )
    for axis, report in (number.reward or {}).get("reports", {}).items():
        lines.append(f"reward model  {axis}: {accuracy_line(report)}")
    if (done := number.evaluation) is not None:
        if win := done.get("win_rate"):
            lines.append(
                f"win rate      {win['value']:.1%} [{win['low']:.1%}, {win['high']:.1%}] by "
                f"{done['judged_by']}, against the starting model, {done['prompts']} prompts"
            )
        kl = done["kl"]
        lines.append(
            f"KL            {kl['value']:.2f} [{kl['low']:.2f}, {kl['high']:.2f}] nats a sample"
        )
        for name, sides in done["means"].items():
            lines.append(f"{name:<13} {sides['before']:.3f} before, {sides['after']:.3f} after")
    lines += [f"flagged       {flag} grew beyond its limit" for flag in number.flags]
    return lines


def accuracy_line(report: dict[str, Any]) -> str:
    """Held-out accuracy and calibration of a reward model in words."""
    accuracy, calibrated = report["accuracy"], report["calibration"]
    if accuracy is None or calibrated is None:
        return f"{report['heldout']} held-out entries, none of which decides a pair"
    overall = accuracy["overall"]
    line = (
        f"right on {overall['value']:.1%} [{overall['low']:.1%}, {overall['high']:.1%}] of "
        f"{overall['count']:.0f} held-out pairs, calibration error {calibrated['error']:.3f}"
    )
    gold = report.get("gold") or {}
    if gold.get("accuracy"):
        line += f"; gold itself is right on {gold['accuracy']['value']:.1%} of them"
    if gold.get("correlation") is not None:
        line += f", rank correlation with it {gold['correlation']:.2f}"
    return line


def headline(facts: Facts) -> str:
    """One sentence on whether it is better."""
    last = facts.last
    if last is None or last.evaluation is None:
        return "No round has been evaluated yet."
    win = last.evaluation.get("win_rate")
    if win is None:
        return "Nobody judged the last round, so there is no win rate."
    better = "better than" if win["low"] > 0.5 else "worse than" if win["high"] < 0.5 else None
    verdict = f"is {better}" if better else "cannot be told apart from"
    return (
        f"After {last.number} round{'s' if last.number > 1 else ''} the policy {verdict} the "
        f"starting model: it wins {win['value']:.1%} of held-out prompts "
        f"(interval {win['low']:.1%} to {win['high']:.1%})."
    )
