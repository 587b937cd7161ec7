"""What people said of a policy and the model that it started from, asked by nobody."""

import numpy as np

from backflip.evaluation.verdict import win_rate_of
from backflip.records import Sample
from backflip.records.feedback import KINDS
from backflip.records.figures import KeptInterval
from backflip.records.results import EvaluationResult, PeopleCounts
from backflip.statistics import wilson
from backflip.workspace import Workspace, lineage


def with_votes(workspace: Workspace, evaluation: EvaluationResult) -> EvaluationResult:
    """The result of an evaluation, judged by people where nobody else did and some compared both.

    The playground and chats are where they do. On prompts that something was trained on no answer
    counts. Votes on one prompt count as one, ties half.
    """
    if win_rate_of(evaluation) is not None:
        return evaluation
    votes = _votes(workspace, evaluation.model, evaluation.against)
    if not votes:
        return evaluation
    prompts: dict[str, list[float]] = {}
    for prompt, _, points in votes:
        prompts.setdefault(prompt, []).append(points)
    share = float(np.mean([np.mean(points) for points in prompts.values()]))
    win = wilson(share * len(prompts), len(prompts))
    people = PeopleCounts(
        votes=len(votes),
        prompts=len(prompts),
        annotators=len({annotator for _, annotator, _ in votes}),
    )
    found = KeptInterval(value=win.value, low=win.low, high=win.high)
    return evaluation.model_copy(
        update={"judged_by": "people", "win_rate": found, "people": people}
    )


def _votes(workspace: Workspace, policy: str, start: str) -> list[tuple[str, str, float]]:
    """Prompt, annotator and the policy's points of each comparison of the two models."""
    ours, theirs = (
        {s.id: s for s in workspace.samples.of_model(model) if _is_free(s)}
        for model in (policy, start)
    )
    if not ours or not theirs:
        return []
    votes: list[tuple[str, str, float]] = []
    voting = [name for name, kind in KINDS.items() if kind.values == "pair"]
    for entry in workspace.journal.active(kinds=voting, origin="people"):
        said = entry.vote()
        if said is None:
            continue
        first, second, outcome = said
        points = {"a": 1.0, "b": 0.0, "tie": 0.5}[outcome]
        if first in ours and second in theirs:
            votes.append((ours[first].prompt_id, entry.annotator, points))
        elif first in theirs and second in ours:
            votes.append((ours[second].prompt_id, entry.annotator, 1 - points))
    learned = _learned_from(workspace, policy) if votes else set[str]()
    return [vote for vote in votes if vote[0] not in learned]


def _learned_from(workspace: Workspace, model: str) -> set[str]:
    """Ids of the prompts of all feedback behind a model."""
    entries = lineage(workspace, model).all_entries
    samples = workspace.samples.get({name for entry in entries for name in entry.sample_ids})
    return {sample.prompt_id for sample in samples.values()}


def _is_free(sample: Sample) -> bool:
    """Whether nothing is trained on the sample's prompt: it is held out, or a person asked it."""
    return sample.prompt.split == "heldout" or sample.prompt.source in ("playground", "chat")
