"""A command that fails leaves nothing behind; what it says names the next command."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_desk import Outcome, backflip, done

from backflip.cli.app import app
from backflip.workspace import Workspace

MISTYPED = {
    "a file of another kind": ["feedback", "import", "notes.txt"],
    "no file": ["feedback", "import", "gone.jsonl"],
    "a model that is not there": ["evaluate", "x", "tiny.toml"],
    "no text": ["pretrain", "tiny.toml", "pretrain.text=['gone.txt']"],
    "too few prompts": ["run", "tiny.toml", "prompts.heldout=99"],
}


@pytest.fixture(autouse=True)
def notes(desk: Path) -> None:
    (desk / "notes.txt").write_text("no feedback")


@pytest.mark.parametrize("name", MISTYPED)
def test_no_workspace_is_left_by_a_command_that_failed(desk: Path, name: str) -> None:
    before = sorted(desk.iterdir())
    assert backflip(*MISTYPED[name], "-w", "above/typo").code == 1
    assert sorted(desk.iterdir()) == before


def test_a_folder_that_was_there_stays_with_what_it_held(tmp_path: Path, desk: Path) -> None:
    empty, used = tmp_path / "empty", tmp_path / "used"
    empty.mkdir()
    used.mkdir()
    (used / "artifacts").mkdir()
    (used / "artifacts" / "mine.txt").write_text("keep me")
    for folder in (empty, used):
        assert backflip("feedback", "import", "notes.txt", "-w", folder).code == 1
    assert list(empty.iterdir()) == []
    assert (used / "artifacts" / "mine.txt").read_text() == "keep me"


def test_a_workspace_with_something_in_it_stays(tmp_path: Path, desk: Path) -> None:
    done("feedback", "import", "bench.jsonl", "-w", tmp_path / "kept")
    Workspace.create(tmp_path / "made").close()
    for name in ("kept", "made"):
        assert backflip("feedback", "import", "notes.txt", "-w", tmp_path / name).code == 1
    with Workspace.open(tmp_path / "kept") as kept:
        assert kept.journal.count() == 5
    Workspace.open(tmp_path / "made").close()


def test_what_was_learned_before_an_error_stays(tmp_path: Path, desk: Path) -> None:
    """The model that the run starts from is kept, though nobody told two samples apart."""
    undecided = "feedback.teachers=[{name='undecided', count=3, equals=1e9}]"
    outcome = backflip("run", "point.toml", undecided, "-w", tmp_path / "new")
    assert outcome.code == 1
    assert "no answer tells two samples apart" in outcome.err
    with Workspace.open(tmp_path / "new") as kept:
        assert [model.stage for model in kept.models.all()] == ["base"]


def test_the_workspaces_beside_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alone = backflip("models").err
    assert "backflip demo" in alone
    assert "-w FOLDER" in alone
    assert "there is" not in alone
    Workspace.create("backflip-demo").close()
    assert "there is backflip-demo" in backflip("models").err


def test_a_recipe_that_comes_with_backflip_is_suggested(desk: Path) -> None:
    assert "did you mean 'demo'" in backflip("config", "show", "demo.toml").err
    assert "did you mean" not in backflip("config", "show", "nowhere.toml").err


def test_who_can_be_withdrawn_is_told(desk: Path, tmp_path: Path) -> None:
    done("feedback", "import", "bench.jsonl", "-w", tmp_path / "w")
    for option in ("--entry", "--annotator"):
        told = backflip(
            "feedback", "revoke", option, "nope", "--reason", "r", "-w", tmp_path / "w", "--json"
        )
        error = told.json["error"]
        assert "'nope'" in error["what"]
        assert error["where"] == str((tmp_path / "w").resolve())
        assert "backflip feedback stats" in error["hint"]


def test_importing_and_exporting_tell_how_far_they_are(desk: Path, tmp_path: Path) -> None:
    imported = done("feedback", "import", "bench.jsonl", "-w", tmp_path / "w")
    assert imported.err.split()[:3] == ["Import", "6", "rows,"]
    exported = done("feedback", "export", tmp_path / "all.jsonl", "-w", tmp_path / "w")
    assert exported.err.split()[:3] == ["Export", "5", "entries,"]


def test_every_command_that_makes_a_workspace_takes_a_database() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    making = {**commands, "import": commands["feedback"].commands["import"]}
    takes = {name: {p.name for p in c.params} for name, c in making.items()}
    found = {name for name, parameters in takes.items() if "database" in parameters}
    assert found == {
        *("run", "demo", "pretrain", "sft", "sample", "label", "reward", "policy", "evaluate"),
        *("import", "restore", "serve"),
    }


def test_each_passes_the_database_on(desk: Path) -> None:
    for command in (["run"], ["pretrain"], ["sft"], ["sample"], ["label"], ["reward"], ["policy"]):
        outcome = backflip(*command, "tiny.toml", "--database", "mysql://x/y", "-w", "typo")
        assert outcome.code == 1
        assert "mysql" in outcome.err
    outcome = backflip("evaluate", "x", "tiny.toml", "--database", "mysql://x/y", "-w", "typo")
    assert "mysql" in outcome.err
    assert not (desk / "typo").exists()


class TestPretrainingAModel:
    def test_goes_on_from_a_model(
        self, desk: Path, text_stages: dict[str, Outcome], tmp_path: Path
    ) -> None:
        shutil.copytree("text", tmp_path / "copy")
        first = text_stages["sft"].json["id"]
        settings = ["tiny.toml", "pretrain.scratch=none", "-w", tmp_path / "copy"]
        again = done("pretrain", *settings, "-m", first, "--json").json
        assert again["stage"] == "pretrain"
        assert again["parents"] == [first]

    def test_random_weights_come_from_no_model(
        self, desk: Path, text_stages: dict[str, Outcome]
    ) -> None:
        first = text_stages["sft"].json["id"]
        outcome = backflip("pretrain", "tiny.toml", "-m", first, "-w", "text")
        assert outcome.code == 1
        assert "pretrain.scratch=none" in outcome.err


HEAVY = (
    *("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "scipy", "pyarrow"),
    *("matplotlib", "sqlalchemy", "alembic", "httpx", "jinja2", "gymnasium"),
    *("backflip.feedback", "backflip.loop", "backflip.models", "backflip.config"),
)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["rnu"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from backflip.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(ran.stderr.split())
    assert "backflip.cli.app" in loaded
    # Typer itself reads the options of a command with pydantic; the first help needs none.
    heavy = {*HEAVY, "pydantic"} if arguments in (["--help"], ["--version"]) else HEAVY
    assert sorted(loaded.intersection(heavy)) == []
