"""Seeing, before any work, that a run can be carried out: everything that cannot is said at once.

The whole of it, or what one stage uses of it and nothing else. Every text is encoded and held to
every limit, and every part is made once, saved and loaded again, as the stages will do it. The
parts are made one after the other: memory holds one or two of them.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.algorithms import consumes, make_algorithm
from backflip.data.opening import look_up
from backflip.data.scratch import scratch_folder
from backflip.errors import BackflipError, SettingsError
from backflip.feedback.teachers import make_crowd
from backflip.judging.pairwise import Judge
from backflip.loop.scope import Scope, StageName, scope_of
from backflip.loop.stage import StagedRun
from backflip.loop.stages.training_data import learnable, usable_entries
from backflip.models.matching import require_finite
from backflip.records import Prompt, Sample, derive_seed
from backflip.records.feedback import WRITTEN_KINDS
from backflip.records.plan import PREPARING, START
from backflip.records.problems import Findings, Problem
from backflip.training import Given
from backflip.training.trainers.auxiliary import pretraining_mix

if TYPE_CHECKING:
    from backflip.loop.recipe import Recipe

SHOWN = 20
"""Problems that an error lists; `backflip check --json` lists them all."""


def preflight(
    run: StagedRun,
    folder: Path,
    *,
    model: Path | None = None,
    ahead: Sequence[str] = tuple(kind.name for kind in PREPARING),
    snapshot: str | None = None,
    stage: StageName | None = None,
    rewards: Sequence[Path] = (),
) -> Findings:
    """Check a run, which need not have begun.

    Args:
        run: the recipe, its domain and the workspace.
        folder: where the starting model is made, if it must be.
        model: where the model lies that work begins with; None: the recipe's.
        ahead: stages that are still to prepare that model, where the recipe has them.
        snapshot: of feedback that is learned from; None: what the recipe says.
        stage: the one that is to be done; None: all of them.
        rewards: where reward models lie that score, if a stage is given some.
    """
    recipe, domain = run.recipe, run.domain
    asked, scope = recipe.feedback, scope_of(recipe, stage)
    given = Given(
        ahead=ahead,
        texts=recipe.algorithm.mixed_text.files if scope.algorithm else (),
        shown=lambda: _shown(run),
        told=lambda: _told(run, snapshot) if scope.told else [],
        dialogues=scope.dialogues,
        answered=scope.answered,
        whole=scope.whole,
        reward=scope.reward,
        scorers=rewards,
        # People may add a correction to an answer of any kind.
        written=asked.source == "people" or bool(set(asked.kinds) & set(WRITTEN_KINDS)),
    )
    seed = derive_seed(recipe.seed, START.name)
    found, home = domain.check(folder, given, seed=seed, model=model)
    for problem in _of_the_whole(recipe, scope, ahead, found.facts.get("prompts")):
        found.note(problem)
    _check_annotators(recipe, scope, found)
    if home is not None:
        # Beside the model and not in the system's own place, which may be small.
        with scratch_folder(folder, ".check-") as made:
            _Parts(run, scope, home, made, rewards).make(ahead, found)
    found.facts["work"] = _work(recipe, found.facts.get("prompts"))
    return found


def refusal(found: Findings) -> SettingsError:
    """The error that tells all problems which keep a run from working."""
    fatal = found.fatal
    if len(fatal) == 1:
        (problem,) = fatal
        return SettingsError(problem.what, where=problem.where, hint=problem.hint)
    lines = [f"  {problem}" for problem in fatal[:SHOWN]]
    if more := len(fatal) - SHOWN:
        lines += [f"  and {more} more, which backflip check lists with --json"] * (more > 0)
    hints = list(dict.fromkeys(p.hint for p in fatal if p.hint))[:SHOWN]
    told = "\n".join((f"{len(fatal)} things keep this run from working:", *lines))
    return SettingsError(told, hint="\n".join(hints) or None)


def _shown(run: StagedRun) -> list[Sample]:
    """What people wrote, as `stages.sft` takes it from the workspace."""
    written = learnable(run, run.workspace.journal.active(kinds=WRITTEN_KINDS))
    ids = [entry.sample_ids[0] for entry in written]
    return list(run.workspace.samples.get(ids).values())


def _told(run: StagedRun, snapshot: str | None) -> list[Sample]:
    entries = (
        usable_entries(run)
        if snapshot is None
        else learnable(run, run.workspace.snapshots.rows(snapshot))
    )
    ids = {name for entry in entries for name in entry.sample_ids}
    return list(run.workspace.samples.get(sorted(ids)).values())


def _of_the_whole(
    recipe: "Recipe", scope: Scope, ahead: Sequence[str], prompts: dict[str, Any] | None
) -> Iterator[Problem]:
    """What the numbers come to together."""
    if recipe.prompts.source.startswith("env:"):
        for name in ahead:
            if getattr(recipe, name) is not None:
                yield Problem(what="an agent is not trained on text", where=name)
    if prompts is None:
        return
    heldout, train = prompts["heldout"], prompts["train"]
    online = consumes(recipe.algorithm) == "rollouts"
    evaluated = min(heldout, recipe.evaluation.prompts)
    replies = evaluated * recipe.evaluation.samples_per_prompt
    if scope.reward and replies < 2:
        yield Problem(
            what=f"of {replies} held-out reply of the starting model no zero and unit of a reward "
            "model can be found",
            where="prompts.heldout",
            hint="Hold out 2 prompts or more that can be used, or raise "
            "evaluation.samples_per_prompt.",
        )
    elif scope.measured and evaluated < 2:
        yield Problem(
            what=f"the policy is measured on {evaluated} prompt, which says nothing about others",
            where="prompts.heldout",
            hint="Hold out more.",
            fatal=False,
        )
    asked = min(train, recipe.feedback.prompts)
    if scope.whole and online and asked < 2 and recipe.feedback.use == "run":
        yield Problem(
            what=f"feedback on {asked} prompt cannot be parted into what a reward model is "
            "trained on and what it is measured on",
            where="feedback.prompts" if recipe.feedback.prompts < 2 else "prompts.source",
            hint="Ask about 2 prompts or more.",
        )
    written = [kind for kind in recipe.feedback.kinds if kind in WRITTEN_KINDS]
    if scope.whole and written and online and recipe.reward.too_long == "refuse":
        yield Problem(
            what=f"what is written for a {' or a '.join(written)} may be longer than what learns "
            "from it reads, which would stop the run after it was asked for",
            where="reward.too_long",
            hint='Say "drop" to leave such answers out.',
            fatal=False,
        )
    if scope.asked and train < recipe.feedback.prompts:
        yield Problem(
            what=f"there are {train} prompts to ask about, so each round asks about these",
            where="feedback.prompts",
            fatal=False,
        )


def _check_annotators(recipe: "Recipe", scope: Scope, found: Findings) -> None:
    feedback = recipe.feedback
    if scope.teachers:
        with found.noting("feedback.teachers"):
            make_crowd(feedback.teachers, feedback.gold, seed=recipe.seed)
    if scope.judge and feedback.the_judge is not None:
        with found.noting("feedback.judge"), Judge(feedback.the_judge):
            pass


class _Parts:
    """The parts of a run, made as its stages do.

    Args:
        run: whose.
        scope: what of it.
        home: where the model lies that the work begins with.
        folder: where parts are saved.
        rewards: where reward models lie that score.
    """

    def __init__(
        self, run: StagedRun, scope: Scope, home: Path, folder: Path, rewards: Sequence[Path]
    ):
        self._recipe, self._domain, self._seed = run.recipe, run.domain, run.recipe.seed
        self._algorithm = make_algorithm(run.recipe.algorithm)
        self._scope, self._home, self._rewards = scope, home, rewards
        self._policy, self._reward = folder / "policy", folder / "reward"
        self._drawn: list[Sample] = []

    def make(self, ahead: Sequence[str], found: Findings) -> None:
        """Make each part, save it and load it again; what is wrong is noted."""
        with _set_aside():
            for where, make in self._wanted(ahead):
                made = _was_made(found, where, make)
                gc.collect()  # layers and hooks of a model are rings
                if not made and where in ("model", "reward.model"):
                    return  # what follows is made of it

    def _wanted(self, ahead: Sequence[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
        """The key that each part goes by, and what makes it."""
        scope, domain = self._scope, self._domain
        if scope.algorithm or any(getattr(self._recipe, name) is not None for name in ahead):
            yield "model", self._save_policy
        if scope.algorithm and self._recipe.algorithm.mixed_text.weight:
            yield Given.texts_key, self._mix
        if scope.answered:
            yield "sampling", self._act
        if scope.algorithm:
            yield "model, as the reference", lambda: domain.reference(self._home)
        online = self._algorithm.consumes == "rollouts"
        # A value model is the reward model, loaded again.
        as_value = "values" in self._algorithm.needs
        if scope.reward:
            yield "reward.model", self._save_reward
        if scope.whole and online and as_value:
            yield "reward.model, as the value model", lambda: self._value(self._reward)
        elif scope.whole and online:
            yield "reward.model, loaded again", lambda: domain.reward(self._reward)
        for place in self._rewards:
            yield "--reward", lambda place=place: domain.reward(place).score(self._drawn)
        if scope.algorithm and as_value and self._rewards:
            yield "--reward, as the value model", lambda: self._value(self._rewards[0])

    def _save_policy(self) -> None:
        network = self._domain.policy(self._home, seed=self._seed)
        require_finite(network)
        network.save(self._policy, {})

    def _mix(self) -> None:
        mixed = self._recipe.algorithm.mixed_text
        there = tuple(file for file in mixed.files if look_up(Path(file)) is not None)
        if there:  # what is not is told already
            mixed = replace(mixed, files=there)
        elif mixed.files and not self._recipe.prompts.source.startswith("env:"):
            return
        pretraining_mix(mixed, self._domain.text_rows, seed=self._seed)

    def _act(self) -> None:
        place = self._policy if self._policy.exists() else self._home
        sampler = self._domain.sampler(place, model_id="checked")
        if prompts := _first(self._domain.prompts, self._scope.answered[0]):
            settings = self._recipe.sampling.model_copy(update={"max_tokens": 1})
            self._drawn.extend(sampler.sample(prompts, settings, seed=self._seed))

    def _save_reward(self) -> None:
        network = self._domain.scorer(self._home, seed=self._seed)
        require_finite(network)
        network.score(self._drawn)
        network.save(self._reward, {})

    def _value(self, place: Path) -> Any:
        return self._domain.value(place, seed=self._seed)


@contextmanager
def _set_aside() -> Iterator[None]:
    """Within the block garbage is looked for among what is made there: all else takes seconds."""
    others = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not others:
            gc.unfreeze()


def _was_made(found: Findings, where: str, make: Callable[[], Any]) -> bool:
    """Whether a part can be made; what is wrong is noted."""
    with found.noting(where):
        try:
            make()
        except MemoryError as error:
            raise SettingsError(f"there is no memory for it: {error}", where=where) from None
        return True
    return False


def _first(prompts: Callable[[], Sequence[Prompt]], side: str) -> list[Prompt]:
    """One prompt of a side, if prompts can be read at all: else that is told already."""
    try:
        return [prompt for prompt in prompts() if prompt.split == side][:1]
    except BackflipError:
        return []


def _work(recipe: "Recipe", prompts: dict[str, Any] | None) -> dict[str, int]:
    """How much there is to do: replies that are drawn, and the most tokens of them."""
    if prompts is None:
        return {}
    feedback, evaluation = recipe.feedback, recipe.evaluation
    measured = min(prompts["heldout"], evaluation.prompts) * evaluation.samples_per_prompt
    asked = min(prompts["train"], feedback.prompts) * feedback.samples_per_prompt
    if feedback.selection.strategy != "random":
        asked *= feedback.selection.pool
    drawn = asked + recipe.algorithm.rollouts_a_round + measured
    replies = measured + recipe.loop.rounds * drawn
    return {"replies": replies, "tokens": replies * recipe.sampling.max_tokens}
