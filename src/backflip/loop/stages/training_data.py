"""Which feedback a run may learn from: whatever is trained on people's words passes here."""

from collections.abc import Iterable, Mapping

from backflip.errors import TrainingError
from backflip.loop.stage import Stage, StagedRun
from backflip.records import Prompt, Sample, Situation
from backflip.records.feedback import FeedbackBase


def learnable(place: StagedRun | Stage, entries: Iterable[FeedbackBase]) -> list[FeedbackBase]:
    """Those of the entries that are on prompts of the run's kind, none of which is held out.

    A run reads text or acts in one environment, and learns from feedback on that alone. A prompt
    of the recipe is on the side that the recipe puts it on; any other is held out where the
    workspace says so, as it does of a benchmark's.
    """
    entries = list(entries)
    return _kept(place, entries, _samples(place, entries))


def usable_entries(place: StagedRun | Stage) -> list[FeedbackBase]:
    """The entries that count and may be learned from: of this run's rounds so far, of all that
    was said in its project, or of the whole workspace.
    """
    workspace, settings = place.workspace, place.recipe.feedback
    runs: list[str] | None = [place.run_id]
    if settings.use == "workspace":
        runs = None
    elif settings.use == "project" and (project := workspace.projects.find(settings.project)):
        batches = workspace.batches.all(project.id)
        runs += [batch.run for batch in batches if batch.purpose != "checks"]
    return learnable(place, workspace.journal.active(run=runs))


def without_long(
    place: StagedRun | Stage,
    entries: list[FeedbackBase],
    samples: Mapping[str, Sample],
    *,
    reward: bool | None = None,
) -> list[FeedbackBase]:
    """Those of the entries whose samples are not too long, where the others are to be left out.

    `reward` says whether a reward model learns from them; None: whether the recipe trains one.
    """
    speak_of = {name: samples[name] for entry in entries for name in entry.sample_ids}
    long = place.domain.too_long(list(speak_of.values()), reward=reward)
    kept = [entry for entry in entries if long.isdisjoint(entry.sample_ids)]
    if left_out := len(entries) - len(kept):
        place.reporter.warn(
            f"{left_out} of {len(entries)} entries are left out: they are on samples that are too "
            "long (reward.too_long)."
        )
    return kept


def learned_from(
    place: StagedRun | Stage, snapshot: str, *, reward: bool | None = None
) -> tuple[list[FeedbackBase], dict[str, Sample]]:
    """The entries of a snapshot that may be learned from, and every sample they speak of.

    `reward` says whether a reward model learns from them; None: whether the recipe trains one.

    Raises:
        TrainingError: the snapshot has entries, and none of them may be.
    """
    entries = place.workspace.snapshots.rows(snapshot)
    samples = _samples(place, entries)
    kept = _kept(place, entries, samples)
    if kept and not (kept := without_long(place, kept, samples, reward=reward)):
        raise TrainingError(
            "there is no feedback to learn from: every entry is on samples that are too long",
            where="reward.too_long",
            hint="Raise reward.max_tokens, or lower sampling.max_tokens. Where reward.too_long is "
            '"drop" that begins a new run, which feedback.use = "workspace" lets learn from '
            "these answers.",
        )
    if entries and not kept:
        raise TrainingError(
            "there is no feedback to learn from: every entry is on prompts that are held out, or "
            "that this recipe's policy is never asked",
            where=snapshot,
        )
    return kept, samples


def _samples(place: StagedRun | Stage, entries: Iterable[FeedbackBase]) -> dict[str, Sample]:
    return place.workspace.samples.get({name for entry in entries for name in entry.sample_ids})


def _kept(
    place: StagedRun | Stage, entries: Iterable[FeedbackBase], samples: Mapping[str, Sample]
) -> list[FeedbackBase]:
    source = place.recipe.prompts.source
    wanted = source if source.startswith("env:") else "text"
    own = {prompt.id: prompt.split for prompt in place.domain.prompts()}

    def may(prompt: Prompt) -> bool:
        return _about(prompt) == wanted and own.get(prompt.id, prompt.split) == "train"

    return [e for e in entries if all(may(samples[name].prompt) for name in e.sample_ids)]


def _about(prompt: Prompt) -> str:
    content = prompt.content
    return f"env:{content.environment}" if isinstance(content, Situation) else "text"
