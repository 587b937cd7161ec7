"""What the guides say of defaults, figures and likelihoods is so."""

import re
from pathlib import Path

import pytest
import torch

from backflip.cli.loop import FOR_ONE_PERSON
from backflip.config import FeedbackSettings
from backflip.data import load_prompts
from backflip.loop import load_recipe
from backflip.loop.stages.measuring import _examples
from backflip.losses import choice_nll
from backflip.records import Completion, Prompt, Sample
from backflip.rewards import AnnotatorModel

DOCS = Path(__file__).parents[1] / "docs"
NUMBERS = {"two": 2, "four": 4, "ten": 10}


def page(name: str) -> str:
    """A page on one line."""
    return " ".join((DOCS / f"{name}.md").read_text(encoding="utf-8").split())


def number(name: str, pattern: str) -> float:
    """The one number, written in figures or as a word, where a page says this."""
    (found,) = re.findall(pattern, page(name))
    return NUMBERS[found] if found in NUMBERS else float(found)


def test_the_demos_prompts_are_as_many_as_the_tutorial_says():
    settings = load_recipe("demo").prompts
    assert f"`{settings.source}`" in page("tutorial")
    assert len(load_prompts(settings, 0)) == number("tutorial", r"(\d+) short requests")


def test_the_crowd_is_the_one_that_the_tutorial_introduces():
    groups = {group.name: group for group in FeedbackSettings().teachers}
    assert load_recipe("demo").feedback.teachers == FeedbackSettings().teachers
    told = {"careful": r"(\w+) careful", "hasty": r"(\w+) hasty", "guessing": r"(\w+) who mostly"}
    counts = {name: number("tutorial", pattern) for name, pattern in told.items()}
    assert counts == {name: group.count for name, group in groups.items()}
    assert sum(counts.values()) == number("tutorial", r"they are (\w+) simulated ones")
    betas = [groups[name].beta for name in told]
    mistakes = [groups[name].mistakes for name in told]
    assert betas == sorted(betas, reverse=True)
    assert mistakes == sorted(mistakes)


def test_one_person_is_asked_as_many_comparisons_as_the_tutorial_says():
    feedback = load_recipe("demo", ["feedback=people", *FOR_ONE_PERSON]).feedback
    assert feedback.prompts == number("tutorial", r"the demo asks (\d+) comparisons")
    assert (feedback.kinds, feedback.samples_per_prompt, feedback.overlap) == (
        ("comparison",),
        2,
        1,
    )


def test_the_demo_in_float32_does_fewer_of_everything_that_it_sets():
    full, small = load_recipe("demo"), load_recipe("demo-float32")
    pairs = [
        (full.prompts.heldout, small.prompts.heldout),
        (full.feedback.prompts, small.feedback.prompts),
        (full.algorithm.steps, small.algorithm.steps),
        (full.algorithm.prompts_per_step, small.algorithm.prompts_per_step),
        (full.evaluation.prompts, small.evaluation.prompts),
    ]
    assert all(few < many for many, few in pairs)
    assert small.model.precision == small.reward.model.precision == "float32"


def chances(rewards: list[float], beta: float) -> torch.Tensor:
    """Of each option, by the likelihood that choices are learned from."""
    scores = torch.tensor([rewards] * len(rewards), dtype=torch.float64)
    chosen = torch.arange(len(rewards))
    betas = torch.full((len(rewards),), beta, dtype=torch.float64)
    return (-choice_nll(scores_BK=scores, chosen_B=chosen, beta_B=betas)).exp()


def test_a_choice_is_as_sure_as_the_annotator_is_reliable():
    rewards = [0.3, -1.0, 0.9, 0.2]
    assert chances(rewards, 0.0).tolist() == pytest.approx([0.25] * 4)
    best = [float(chances(rewards, beta)[2]) for beta in (0.0, 0.5, 2.0, 10.0, 50.0)]
    assert best == sorted(set(best))
    assert best[-1] == pytest.approx(1.0, abs=1e-9)


def test_reward_is_known_only_up_to_scale():
    rewards = [0.3, -1.0, 0.9, 0.2]
    torch.testing.assert_close(chances([2 * r for r in rewards], 0.35), chances(rewards, 0.7))


def test_implicit_signals_start_as_weak_as_the_page_says():
    told = number("feedback/implicit", r"that starts at ([\d.]+) and")
    signals = ("kept", "regenerated", "copied", "abandoned")
    started = AnnotatorModel(["mia"]).signal_beta(signals)
    assert started.tolist() == pytest.approx([told] * 4)


def test_replies_in_a_report_are_the_first_and_not_the_best():
    def samples(word: str) -> list[Sample]:
        return [Sample.of(Prompt.from_text(f"{i}?"), Completion(f"{word} {i}.")) for i in range(5)]

    before, after = samples("Old"), samples("New")
    gold = [0.0, 1.0, 2.0, 3.0, 4.0]
    shown = _examples(before, after, {"gold": (gold, gold)}, 2)
    assert [example.before.sample for example in shown] == [s.id for s in before[:2]]
    assert [example.after.sample for example in shown] == [s.id for s in after[:2]]
    assert [example.after.measures["gold"] for example in shown] == [0.0, 1.0]
