"""The report of a run, from stages written by hand."""

import re
from html.parser import HTMLParser

import pytest

from backflip.errors import WorkspaceError
from backflip.evaluation.report import gather, summary, write_report
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.workspace import ModelRecord
from stored_results import store

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \u202eevil {{ 7 * 7 }}"
SHARE = {"value": 0.75, "low": 0.5, "high": 0.9, "count": 8.0}


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


REPORT = {
    "accuracy": {
        "overall": SHARE,
        "by_strength": {"2": SHARE},
        "by_length": {"longer": SHARE},
        "by_annotator": {"mia": SHARE},
        "by_kind": {"comparison": SHARE},
    },
    "calibration": {
        "error": 0.125,
        "brier": 0.1,
        "nll": 0.5,
        "table": [{"low": 0.5, "high": 0.6, "predicted": 0.55, "observed": SHARE}],
    },
    "reliabilities": {"mia": 1.5},
    "heldout": 8,
    "trained_on": 40,
}
FEEDBACK = {"entries": 48, "new_entries": 48, "annotators": ["mia"], "skipped": 2}
REWARD = {"rewards": {"overall": ["reward"]}, "reports": {"overall": REPORT}}
EVALUATION = {
    "model": "policy",
    "against": "base",
    "judged_by": "gold",
    "prompts": 1,
    "win_rate": {"value": 0.8125, "low": 0.7, "high": 0.9},
    "kl": {"value": 4.5, "low": 4.0, "high": 5.0},
    "means": {"gold": {"before": 0.1, "after": 0.6}},
}


@pytest.fixture
def run(workspace):
    prompt = Prompt.from_text(f"Say something. {HOSTILE}")
    before = Sample.of(prompt, Completion(f"Before {HOSTILE}"), seed=1)
    after = Sample.of(prompt, Completion("After, all is well."), seed=2)
    workspace.samples.add([before, after])
    entry = Comparison(annotator="mia", samples=(after.id, before.id), choice="a", strength=2)
    workspace.journal.add([entry], run="run-1", round=1)
    recipe = {"feedback": {"source": "teachers", "gold": "sentiment"}, "seed": 3}
    workspace.runs.start("run-1", "night <b>shift</b>", recipe, "1.2.3")
    snapshot = workspace.snapshots.take([entry.id]).id
    register_models(workspace, snapshot)
    example = {
        "prompt": prompt.text,
        "before": {"sample": before.id, "gold": 0.1},
        "after": {"sample": after.id, "gold": 0.6},
    }
    results = {
        "round-1/feedback": {**FEEDBACK, "snapshot": snapshot},
        "round-1/reward": {**REWARD, "snapshot": snapshot},
        "round-1/policy": {"model": "policy", "trained": "runs/run-1/trained"},
        "round-1/evaluate": {**EVALUATION, "examples": [example]},
    }
    for key, result in results.items():
        store(workspace, "run-1", key, result)
    for step in (1, 2, 3):
        workspace.metrics.log("run-1", "round-1/policy", step, {"reward": 0.1 * step, "kl": step})
    workspace.metrics.log("run-1", "round-1/policy/flags", 3, {"kl": 1.0})
    workspace.runs.finish("run-1")
    return workspace


def register_models(workspace, snapshot):
    """A base model, a reward model and a policy, each made of those before it."""
    for kind, parents, shot in (
        ("base", (), None),
        ("reward", ("base",), snapshot),
        ("policy", ("base", "reward"), snapshot),
    ):
        workspace.models.register(
            ModelRecord(
                id=kind,
                name=f"the {kind}",
                stage=kind,
                path=f"models/{kind}",
                parents=parents,
                snapshot=shot,
                run="run-1",
            )
        )


def test_facts_hold_what_the_stages_said(run):
    facts = gather(run, "run-1")
    assert facts.name == "night <b>shift</b>"
    assert [r.number for r in facts.rounds] == [1]
    assert facts.rounds[0].curves["kl"] == ((1, 2, 3), (1.0, 2.0, 3.0))
    assert facts.rounds[0].flags == ("kl",)
    assert "VADER" in (facts.gold or "")
    policy = next(model for model in facts.models if model.stage == "policy")
    assert (policy.entries, policy.annotators) == (1, {"mia": 1})


def test_summary_has_the_figures_and_the_flag(run):
    text = summary(run, "run-1")
    for figure in ("81.2%", "70.0%", "90.0%", "4.50", "75.0%", "0.125", "48 new", "flagged"):
        assert figure in text


def test_page_stands_alone_and_shows_hostile_text_as_text(run):
    page = write_report(run, "run-1").read_text(encoding="utf-8")
    reader = Tags()
    reader.feed(page)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form"}
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7 * 7 }}" in page
    assert "Content-Security-Policy" in page
    assert "After, all is well." in page


def test_page_has_figures_with_names_for_screen_readers(run):
    page = write_report(run, "run-1").read_text(encoding="utf-8")
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 3
    assert len(set(labels)) == 3


def test_the_same_run_gives_the_same_page(run):
    first = write_report(run, "run-1").read_bytes()
    assert write_report(run, "run-1").read_bytes() == first
    assert [p.name for p in (run.artifacts / "reports").iterdir()] == ["run-1.html"]


def test_a_run_that_has_only_begun_has_a_report_too(workspace):
    recipe = {"feedback": {"source": "people", "gold": "sentiment"}}
    workspace.runs.start("run-2", "early", recipe, "1.2.3")
    page = write_report(workspace, "run-2").read_text(encoding="utf-8")
    assert "No round has been evaluated yet" in page
    assert "Answers come from people. There is no gold measure." in page


def test_single_stages_make_no_round(workspace):
    """`backflip sample` and `backflip label --model` keep their results under a round's name."""
    recipe = {"feedback": {"source": "people", "gold": "sentiment"}}
    workspace.runs.start("run-3", "parts", recipe, "1.2.3")
    store(workspace, "run-3", "round-1/sample", {"model": "m", "samples": []})
    told = {**FEEDBACK, "snapshot": "s"}
    store(workspace, "run-3", "round-1/feedback-0123456789abcdef0123", told)
    workspace.stages.begin("run-3", "round-2/policy")  # begun, and nothing said yet
    text = summary(workspace, "run-3")
    page = write_report(workspace, "run-3").read_text(encoding="utf-8")
    assert text.splitlines()[1:] == ["", "No round has been evaluated yet."]
    assert page.count("No round has been evaluated yet.") == 1
    headings = re.findall(r"<h[23]>(.*?)</h[23]>", page)
    assert headings == ["Recipe"], "nothing else has anything below it"


def test_a_round_under_way_is_told_as_far_as_it_went(run):
    told = {"new_entries": 7, "entries": 9, "annotators": ["mia", "ann"], "skipped": 0}
    snapshot = run.snapshots.take([]).id
    store(run, "run-1", "round-2/feedback", {**told, "snapshot": snapshot})
    text = summary(run, "run-1")
    assert text.splitlines()[-2:] == [
        "Round 2",
        "  feedback      7 new entries, 0 skipped; 9 in all from 2 annotators",
    ]
    assert "<h3>Round 2</h3>" in write_report(run, "run-1").read_text(encoding="utf-8")


def test_an_unknown_run_is_refused(workspace):
    with pytest.raises(WorkspaceError):
        gather(workspace, "run-9")
