"""How prompts and samples look in a terminal; hostile text is made harmless first."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from backflip.plain_text import clean_text
from backflip.records import Clip, Prompt, Sample

SIDE_BY_SIDE_WIDTH = 80
MAX_DIMENSIONS = 8
_BLOCKS = "▁▂▃▄▅▆▇█"


def prompt_view(prompt: Prompt) -> RenderableType:
    """The prompt in a frame."""
    return Panel(Text(clean_text(prompt.text)), title="Prompt", title_align="left")


def sample_view(sample: Sample, label: str) -> RenderableType:
    """One sample in a frame with its label."""
    if isinstance(sample.content, Clip):
        body = _clip_text(sample.content)
    else:
        body = clean_text(sample.text) or "(empty)"
        if sample.content.truncated:
            body += " (cut off here)"
    return Panel(Text(body), title=Text(label), title_align="left")


def samples_view(samples: Sequence[Sample], labels: Sequence[str], width: int) -> RenderableType:
    """Samples side by side when there are two and room for them, else one below the other."""
    views = [sample_view(s, label) for s, label in zip(samples, labels, strict=True)]
    if len(views) != 2 or width < SIDE_BY_SIDE_WIDTH:
        return Group(*views)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(*views)
    return grid


def _clip_text(clip: Clip) -> str:
    """A clip for a reader: its length, its end, and curves; never the rewards it is judged by."""
    if clip.terminated:
        end = "the episode ended"
    elif clip.truncated:
        end = "cut off"
    else:
        end = "goes on"
    lines = [f"{clean_text(clip.environment)}: {clip.num_steps} steps, {end}"]
    for name, array in (("saw", clip.observations), ("did", clip.actions)):
        flat = np.asarray(array, dtype=np.float64).reshape(len(array), -1)
        for i in range(min(flat.shape[1], MAX_DIMENSIONS)):
            low, high = float(flat[:, i].min()), float(flat[:, i].max())
            lines.append(f"{name} {i}  {_curve(flat[:, i])}  {low:.3g} to {high:.3g}")
        if flat.shape[1] > MAX_DIMENSIONS:
            lines.append(f"{name} {flat.shape[1] - MAX_DIMENSIONS} more numbers")
    return "\n".join(lines)


def _curve(values: np.ndarray, width: int = 24) -> str:
    """A row of blocks that rise and fall with the values' means over equal stretches."""
    chunks = np.array_split(values, min(width, len(values)))
    means = np.array([float(chunk.mean()) for chunk in chunks])
    span = float(means.max() - means.min())
    if not np.isfinite(span) or span == 0:
        return _BLOCKS[0] * len(means)
    levels = (means - means.min()) / span * (len(_BLOCKS) - 1)
    return "".join(_BLOCKS[round(float(level))] for level in levels)
