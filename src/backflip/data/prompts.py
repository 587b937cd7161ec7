"""Prompts from a built-in list, a file or an environment, with a held-out share that stays put."""

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from backflip.config import PromptSettings
from backflip.data.dialogues import prompt_from_row
from backflip.data.fields import Fields
from backflip.data.files import is_text, read_rows, read_text_lines
from backflip.data.rows import OnRejected, Rejected, stop_at_rejected
from backflip.errors import SettingsError
from backflip.records import Prompt, Situation, content_id

NUM_SITUATIONS = 512


def load_prompts(
    settings: PromptSettings,
    seed: int,
    *,
    ignored: Counter[str] | None = None,
    on_rejected: OnRejected = stop_at_rejected,
) -> list[Prompt]:
    """Load the prompts that the settings name, each marked "train" or "heldout".

    Sources: `builtin:NAME`; a `.txt` or `.md` file (also packed) with a prompt on each line;
    the files, folders and hub ids of `data.files.read_rows`, whose rows hold a "prompt" (a text or
    turns), or "messages", "instruction", "question" or "text"; `env:ID`, which gives starts in an
    environment (`limit` of them, 512 unless set). The same prompt twice counts once.

    The prompts' `source` is the place that they were read from, FILE:LINE, where it is a file.

    Which prompts are held out depends on `seed` and on each prompt's own content: they are the
    `heldout` ones whose hash with the seed is lowest. The order of the source and `limit` change
    nothing about it, and prompts added later push out few. `limit` counts both kinds.

    Args:
        settings: name the source, and how many are held out.
        seed: of the held-out split.
        ignored: counts, by its name, in how many rows each column was not used.
        on_rejected: called with each row that cannot be read; by default the first one ends the
            reading with a `FormatError`.

    Returns:
        Prompts in the order of the source.

    Raises:
        SettingsError: an unknown built-in list, or too few prompts for `heldout`.
        FormatError: a file or a row of it that cannot be read.
    """
    found: dict[str, Prompt] = {}
    unused = Counter() if ignored is None else ignored
    for prompt in _read(settings, seed, unused, on_rejected):
        found.setdefault(prompt.id, prompt)  # of the same prompt twice the first place is told
    allowed = len(found) if settings.limit is None else min(settings.limit, len(found))
    if allowed <= settings.heldout:
        raise SettingsError(
            f"{allowed} prompts, of which {settings.heldout} are to be held out, leave none to "
            "train on",
            where=settings.source,
            hint="lower prompts.heldout, or raise prompts.limit, or give more prompts",
        )
    order = sorted(found, key=lambda id_: content_id("order", seed, id_))
    heldout, taken = set(order[: settings.heldout]), set(order[:allowed])
    return [
        prompt.model_copy(update={"split": "heldout" if id_ in heldout else "train"})
        for id_, prompt in found.items()
        if id_ in taken
    ]


def heldout_ids(prompts: Iterable[Prompt]) -> set[str]:
    """The ids of those that are held out, which nothing may be learned from."""
    return {prompt.id for prompt in prompts if prompt.split == "heldout"}


def builtin_prompts() -> list[str]:
    """Names of the built-in lists."""
    folder = resources.files("backflip.data") / "prompts"
    if not folder.is_dir():
        return []
    names = (f.name for f in folder.iterdir())
    return sorted(n.removesuffix(".jsonl") for n in names if n.endswith(".jsonl"))


def _read(
    settings: PromptSettings, seed: int, ignored: Counter[str], on_rejected: OnRejected
) -> Iterator[Prompt]:
    source = settings.source
    if source.startswith("env:"):
        count = settings.limit or max(NUM_SITUATIONS, 2 * settings.heldout)
        yield from _situations(source.removeprefix("env:"), count, seed)
    elif source.startswith("builtin:"):
        name = source.removeprefix("builtin:")
        if name not in builtin_prompts():
            raise SettingsError(
                f"no built-in prompts {name!r}",
                where="prompts.source",
                hint=f"built in: {', '.join(builtin_prompts())}",
            )
        with resources.as_file(resources.files("backflip.data") / "prompts" / f"{name}.jsonl") as p:
            yield from _rows(p, ignored, on_rejected, source)
    elif is_text(Path(source)):
        yield from _lines(Path(source), on_rejected)
    else:
        yield from _rows(source, ignored, on_rejected)


def _rows(
    path: str | Path, ignored: Counter[str], on_rejected: OnRejected, source: str | None = None
) -> Iterator[Prompt]:
    for row in read_rows(path):
        if isinstance(row, Rejected):
            on_rejected(row)
            continue
        fields = Fields(row.data)
        try:
            prompt = prompt_from_row(fields, source=source or row.place)
        except ValueError as error:
            on_rejected(Rejected(row.file, row.line, str(error)))
            continue
        ignored.update(sorted(fields.unread))
        yield prompt


def _lines(path: Path, on_rejected: OnRejected) -> Iterator[Prompt]:
    for item in read_text_lines(path):
        if isinstance(item, Rejected):
            on_rejected(item)
            continue
        number, line = item
        if text := line.strip():
            yield Prompt.from_text(text, source=f"{path.name}:{number}")


def _situations(environment: str, count: int, seed: int) -> Iterator[Prompt]:
    if not environment:
        raise SettingsError("env: names no environment", where="prompts.source")
    for i in range(count):
        digits = content_id("situation", environment, seed, i)[-8:]
        start = int(digits, 16) >> 1  # resets take seeds of 31 bits
        situation = Situation(environment=environment, seed=start)
        yield Prompt(content=situation, source=f"env:{environment}")
