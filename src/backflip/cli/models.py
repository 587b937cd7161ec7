"""Commands on models: list them, talk to them; and the recipe as it resolves."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backflip.cli.flags import AS_JSON
from backflip.cli.output import (
    DEFAULT_WORKSPACE,
    JsonOption,
    OverridesArgument,
    RecipeArgument,
    WorkspaceOption,
    print_json,
    show,
    table,
)
from backflip.cli.signals import status_of
from backflip.cli.toml import to_toml
from backflip.cli.workspaces import is_workspace, open_workspace
from backflip.errors import SettingsError
from backflip.plain_text import clean_text

if TYPE_CHECKING:
    from backflip.config import ChatSettings

config_app = typer.Typer(no_args_is_help=True, help="Look at recipes.")


def models(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the models of a workspace: what was loaded, and what was trained from what."""
    with open_workspace(workspace) as opened:
        found = [(m, str(opened.models.folder(m))) for m in opened.models.all()]
    rows = [
        {
            "id": m.id,
            "stage": m.stage,
            "name": m.name,
            "parents": " ".join(m.parents) or None,
            "folder": folder,
        }
        for m, folder in found
    ]
    facts = [m.model_dump(mode="json") | {"folder": folder} for m, folder in found]
    show(facts, as_json, lambda: table(rows))


def chat(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model of the workspace, a folder, a hub id, or smollm2-135m-instruct.",
        ),
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0: always the likeliest token.")
    ] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of a reply, in tokens.")] = 128,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same replies."),
    ] = 0,
    prompt: Annotated[str | None, typer.Option(help="Ask this one thing and leave.")] = None,
    as_json: Annotated[
        bool, typer.Option(AS_JSON, help="Print each reply as a JSON object on a line of its own.")
    ] = False,
) -> None:
    """Talk to a model. An empty line or Ctrl-D ends; /new forgets what was said."""
    from backflip.config import SamplingSettings
    from backflip.models import load_causal_lm, pick_precision
    from backflip.records import Dialogue, Message, Prompt
    from backflip.sampling import TextSampler

    chosen = {"temperature": temperature, "max_tokens": max_tokens, "max_prompt_tokens": 4096}
    settings = SamplingSettings.parse(chosen, where="chat")
    place, settled = _locate(model, workspace)
    loaded = load_causal_lm(place, dtype=pick_precision("auto"))
    sampler = TextSampler(*loaded, chat=settled)
    turns: list[Message] = []
    number = 0
    try:
        while text := (_ask() if prompt is None else prompt.strip()):
            if text == "/new":
                turns = []
                continue
            turns.append(Message(role="user", content=text))
            asked = Prompt(content=Dialogue(messages=tuple(turns)))
            reply = sampler.sample([asked], settings, seed=seed + number)[0].completion
            number += 1
            turns.append(Message(role="assistant", content=reply.text))
            if as_json:
                facts = {"prompt": text, "reply": reply.text, "finish": reply.finish}
                print_json(facts, indent=None)
            else:
                typer.echo(clean_text(reply.text))
            if prompt is not None:
                return
    except KeyboardInterrupt as ended:
        typer.echo(err=True)
        raise typer.Exit(status_of(ended)) from None


def _ask() -> str:
    """A line from the person; the sign that waits for it goes where no program reads."""
    if sys.stdin is None:  # it is closed
        return ""
    if sys.stdin.isatty():
        typer.echo("> ", err=True, nl=False)
    return sys.stdin.readline().strip()


def _locate(name: str, folder: Path) -> "tuple[str, ChatSettings | None]":
    """The folder of a workspace's model and its settings of dialogues; any other name as it is.

    Raises:
        SettingsError: the model is one of the workspace that cannot talk.
    """
    from backflip.models import BUILTIN_MODELS
    from backflip.workspace import Workspace

    if name in BUILTIN_MODELS or not is_workspace(folder):
        return name, None
    with Workspace.open(folder) as opened:
        named = [m for m in opened.models.all() if name in (m.id, m.name)]
        found = named or [m for m in opened.models.all() if name and m.id.startswith(name)]
        if not found or (len(found) > 1 and not named):
            return name, None
        place = opened.models.folder(found[-1])
    if found[-1].stage == "reward":
        raise SettingsError(
            f"{name} is a reward model: it scores and does not talk", where=str(folder)
        )
    if not (place / "tokenizer.json").is_file() and (place / "backflip.json").is_file():
        raise SettingsError(f"{name} acts in an environment and does not talk", where=str(folder))
    return str(place), found[-1].chat


@config_app.command("show")
def config_show(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Print a recipe with every setting that it resolves to: a recipe itself."""
    from backflip.loop import load_recipe

    resolved = load_recipe(recipe, overrides or []).model_dump(mode="json")
    show(resolved, as_json, lambda: to_toml(resolved).rstrip())


@config_app.command("recipes")
def config_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with the package."""
    from backflip.loop import shipped_recipes

    found = {name: str(path) for name, path in shipped_recipes().items()}
    rows = [{"recipe": name, "file": path} for name, path in found.items()]
    show(found, as_json, lambda: table(rows))


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command()(models)
    app.command()(chat)
    app.add_typer(config_app, name="config")
