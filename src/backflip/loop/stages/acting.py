"""Letting the policy act, and asking what people think of what it did."""

from collections.abc import Sequence

from backflip.config import JudgeSettings
from backflip.errors import JudgeError, TrainingError
from backflip.evaluation import doubt_of_feedback, holding_lines, holdings, order_of
from backflip.feedback.teachers import Item, ask_crowd, make_crowd
from backflip.judging.pairwise import Judge
from backflip.judging.prompts import NUM_LEVELS
from backflip.loop.stage import Stage
from backflip.loop.stages.human_feedback import ask_people
from backflip.loop.stages.interim import InterimReward
from backflip.loop.stages.query_selection import num_prompts, picks, questions
from backflip.loop.stages.training_data import usable_entries
from backflip.records import Order, Prompt, Sample, derive_seed, pick
from backflip.records.feedback import Comparison, Critique
from backflip.records.results import (
    FeedbackResult,
    ModelResult,
    ReadingOrder,
    RewardModels,
    RolloutResult,
)


def baseline(stage: Stage, start: ModelResult) -> RolloutResult:
    """What the starting model says to the held-out prompts: later policies are held against it."""
    settings = stage.recipe.evaluation
    prompts = heldout_prompts(stage, settings.prompts)
    samples = act(stage, start.model, prompts, settings.samples_per_prompt)
    return RolloutResult(model=start.model, samples=tuple(sample.id for sample in samples))


def sample(stage: Stage, policy: ModelResult, reward: RewardModels | None = None) -> RolloutResult:
    """Let the policy answer this round's prompts; more of them where a strategy picks.

    Args:
        stage: whose work it is.
        policy: the model that acts.
        reward: reward models of the round before, which a strategy may go by.
    """
    settings = stage.recipe.feedback
    prompts = [prompt for prompt in stage.domain.prompts() if prompt.split == "train"]
    wanted = num_prompts(stage) * (settings.selection.pool if picks(stage, reward) else 1)
    order = Order(len(prompts), stage.seed).take(0, wanted)
    samples: list[Sample] = []
    for number, start in enumerate(range(0, wanted, len(prompts))):
        # Each time round the prompts, other samples of them.
        seed = derive_seed(stage.seed, "again", number) if number else stage.seed
        chosen = pick(prompts, order[start : start + len(prompts)])
        samples += act(stage, policy.model, chosen, settings.samples_per_prompt, seed)
    return RolloutResult(model=policy.model, samples=tuple(sample.id for sample in samples))


def act(
    stage: Stage, model: str, prompts: Sequence[Prompt], per_prompt: int, seed: int | None = None
) -> list[Sample]:
    """Draw samples from a model of the workspace, and keep them there; the seed is the stage's."""
    sampler = stage.domain.sampler(stage.model_folder(model), model_id=model)
    with stage.reporter.bar("Sampling", len(prompts) * per_prompt, "samples") as advance:
        samples = sampler.sample(
            prompts,
            stage.recipe.sampling,
            num_samples=per_prompt,
            seed=stage.seed if seed is None else seed,
            advance=advance,
        )
    stage.workspace.samples.add(samples)
    return samples


def heldout_prompts(stage: Stage, number: int) -> list[Prompt]:
    """The first held-out prompts, as many as there are up to `number`."""
    return [p for p in stage.domain.prompts() if p.split == "heldout"][:number]


def feedback(
    stage: Stage,
    asked: RolloutResult,
    reward: RewardModels | None = None,
    start: ModelResult | None = None,
) -> FeedbackResult:
    """Ask about the samples, and fix what is learned from now as a snapshot.

    Args:
        stage: whose work it is.
        asked: the samples, and who gave them.
        reward: reward models of the round before, by which a strategy may pick among them.
        start: the model that reward models grow from; None for the one that gave the samples.
    """
    settings, workspace = stage.recipe.feedback, stage.workspace
    found = workspace.samples.get(asked.samples)
    samples = [found[sample_id] for sample_id in asked.samples]
    items = questions(stage, samples, reward)
    if not items:
        raise TrainingError(
            "there is nothing to ask about: every prompt got the same reply each time",
            hint="Raise sampling.temperature or feedback.samples_per_prompt.",
        )
    if settings.source == "people":
        skipped = ask_people(stage, items, InterimReward(stage, (start or asked).model))
    else:
        skipped = (ask_judge if settings.source == "judge" else ask_teachers)(stage, items)
    read_critiques(stage)
    entries = usable_entries(stage)
    snapshot = workspace.snapshots.take([entry.id for entry in entries])
    new = workspace.journal.active(run=stage.run.id, rounds=stage.round)
    held = holdings(new)
    result = FeedbackResult(
        snapshot=snapshot.id,
        entries=len(entries),
        new_entries=len(new),
        skipped=skipped,
        annotators=tuple(sorted({entry.annotator for entry in entries})),
        holds=held,
        order=ReadingOrder(**order_of(new)),
    )
    stage.reporter.say("\n".join([f"{stage.key}:", *holding_lines(held)]))
    if doubt := doubt_of_feedback(result):
        stage.reporter.warn(f"{stage.key}: {doubt}.")
    return result


def ask_teachers(stage: Stage, items: Sequence[Item]) -> int:
    """Simulated annotators answer. Returns the number of questions that were skipped."""
    settings, workspace = stage.recipe.feedback, stage.workspace
    crowd = make_crowd(settings.teachers, settings.gold, seed=stage.recipe.seed)
    for teacher in crowd:
        workspace.annotators.add(
            teacher.name, group="teachers", settings=teacher.settings.model_dump(mode="json")
        )
    with stage.reporter.bar("Asking teachers", len(items), "items") as advance:
        answers = ask_crowd(
            crowd, items, overlap=settings.overlap, seed=stage.seed, advance=advance
        )
    workspace.samples.add(answers.written)
    workspace.journal.add(answers.entries, run=stage.run.id, round=stage.round)
    return answers.num_skipped


def ask_judge(stage: Stage, items: Sequence[Item]) -> int:
    """A language model behind an address answers. Returns the number of skipped questions."""
    settings, journal = stage.recipe.feedback, stage.workspace.journal
    chosen = settings.the_judge or JudgeSettings()
    name = enter_judge(stage, chosen)
    # A judge is dear: a resumed stage asks only about what has no answer yet.
    known = journal.active(run=stage.run.id, rounds=stage.round, annotator=name)
    answered = {(entry.axis, entry.sample_ids) for entry in known}
    waiting: dict[str, list[tuple[Sample, Sample]]] = {}
    for item in items:
        pair, axis = (item.samples[0], item.samples[1]), item.axis or "overall"
        if (axis, (pair[0].id, pair[1].id)) not in answered:
            waiting.setdefault(axis, []).append(pair)
    failures: list[JudgeError] = []
    given = len(answered)
    number = sum(map(len, waiting.values()))
    with stage.reporter.bar("Asking the judge", number, "pairs") as advance:

        def keep(entry: Comparison) -> None:
            journal.add([entry], run=stage.run.id, round=stage.round)
            advance(1)

        for axis, pairs in waiting.items():
            with Judge(judging(chosen, axis)) as judge:
                judged = judge.compare_all(pairs, axis=axis, on_entry=keep)
            failures += judged.failures
            given += len(judged.entries)
    if failures and not given:
        raise failures[0]
    for failure in failures:
        stage.reporter.warn(str(failure))
    return len(failures)


def judging(settings: JudgeSettings, axis: str) -> JudgeSettings:
    """The judge as it is asked on an axis: by its criterion overall, else by the axis alone."""
    if axis == "overall":
        return settings
    criterion = f"Judge only this about them: {axis}. Which reply is better in that alone?"
    return settings.model_copy(update={"criterion": criterion})


def enter_judge(stage: Stage, settings: JudgeSettings) -> str:
    """Make a judge known as an annotator. Returns its name."""
    name = f"judge:{settings.model}"
    stage.workspace.annotators.add(name, group="judge", settings=settings.model_dump(mode="json"))
    return name


def read_critiques(stage: Stage) -> None:
    """Have the judge, where there is one, read a level from each usable critique without one.

    Entries never change: one with the level, by the same annotator, takes the place of the old.

    Raises:
        JudgeError: it read none of them.
    """
    settings, workspace = stage.recipe.feedback.the_judge, stage.workspace
    waiting = [e for e in usable_entries(stage) if isinstance(e, Critique) and e.level is None]
    if settings is None or not waiting:
        return
    name = enter_judge(stage, settings)
    samples = workspace.samples.get({entry.sample for entry in waiting})
    with (
        Judge(settings) as judge,
        stage.reporter.bar("Reading critiques", len(waiting), "critiques") as advance,
    ):

        def keep(place: int, level: int) -> None:
            old = waiting[place]
            new = {"level": level, "num_levels": NUM_LEVELS, "key": f"{old.id} read by {name}"}
            reason = f"{name} read level {level} from it"
            workspace.journal.replace(old.id, old.model_copy(update=new), reason, by=name)
            advance(1)

        asked = [(samples[entry.sample].prompt, entry.text) for entry in waiting]
        failures = judge.read_critiques(asked, keep)
    if len(failures) == len(waiting):
        raise failures[0]
    for failure in failures:
        stage.reporter.warn(str(failure))
