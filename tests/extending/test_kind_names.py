"""Only the files that are about single kinds name one; all others ask the class of the kind."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import backflip
from backflip.records.feedback import KINDS

SOURCE = Path(backflip.__file__).parent
CLASSES = {cls.__name__ for cls in KINDS.values()}
AT_HOME = (
    "records/feedback/",
    # The registries: forms, likelihoods and what they learn of annotators, teachers' answers.
    "web/forms.py",
    "web/static/label/",
    "terminal/forms.py",
    "feedback/teachers/answers.py",
    "rewards/learning/likelihood.py",
    "rewards/learning/annotators.py",
    "losses/",
    # What others write, in their words.
    "formats/questions.py",
    "formats/label_studio.py",
    "formats/foreign.py",
    "formats/rewardbench.py",
    # Words for people in their own language, with those of kinds from elsewhere beside them.
    "web/templates/questions.html",
    "web/templates/answers.html",
)
MAKERS = {
    "config/stages.py": "the default of a recipe",
    "judging/pairwise.py": "a judge compares, and does nothing else",
    "loop/checks.py": "a judge compares",
    "loop/stages/judging.py": "the comparisons of a judge",
    "loop/stages/acting.py": "the comparisons of a judge, and critiques that it reads",
    "evaluation/holding.py": "in which order a judge read what it compared",
    "web/routes/chat.py": "what people do in a chat is kept as comparisons and implicit signs",
    "web/routes/playground.py": "a comparison is what the playground makes",
    "web/routes/questions.py": "a check of attention is a comparison",
    "web/routes/quality.py": "a ruling is a comparison",
    "web/routes/labelling.py": "rules of a project have such names: what may be said beside",
    "web/templates/rules.html": "the same",
    "workspace/labelling/adjudication.py": "a ruling is a comparison",
}
"""Files that make entries of one kind, or speak of those that were so made; they tell no kinds
apart, and a new kind is nothing to them."""


def named_in(path: Path) -> Iterator[str]:
    """Names of kinds as literals and of their classes, docstrings aside."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from re.findall(rf"[\"']({'|'.join(KINDS)})[\"']", text)
        return
    tree = ast.parse(text)
    ours = any(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("backflip.records.feed")
        for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in KINDS:
            yield node.value
        elif isinstance(node, ast.Name) and node.id in CLASSES and ours:
            yield node.id


def test_other_files_name_no_kind() -> None:
    files = [p for ending in ("py", "js", "html") for p in SOURCE.rglob(f"*.{ending}")]
    found = {
        name: sorted(set(named_in(path)))
        for path in files
        if not (name := path.relative_to(SOURCE).as_posix()).startswith(AT_HOME)
    }
    found = {name: names for name, names in found.items() if names}
    assert {name: names for name, names in found.items() if name not in MAKERS} == {}
    assert sorted(MAKERS) == sorted(found), "no file is excused that needs no excuse"
