"""Figures of a report, as SVG text that stands inside the page."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from backflip.evaluation.report.gather import Round
from backflip.evaluation.verdict import win_rate_of
from backflip.records.figures import KeptBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "reward": "reward (what the policy is trained on)",
    "gold": "gold (what it never sees)",
    "kl": "KL from the reference, nats a sample",
    "length": "length, actions",
}
_BLUE, _ORANGE, _GREY = "#1f6feb", "#bc4c00", "#8c959f"


def training_curves(rounds: Sequence[Round]) -> str | None:
    """Reward, gold, KL and length over the steps of all rounds; None where nothing was trained."""
    names = [name for name in CURVES if any(name in r.curves for r in rounds)]
    if not names:
        return None
    figure = _figure(9.0, 2.3 * ((len(names) + 1) // 2))
    for place, name in enumerate(names):
        axes = figure.add_subplot((len(names) + 1) // 2, 2, place + 1)
        start = 0
        for number in rounds:
            if name not in number.curves:
                continue
            steps, values = number.curves[name]
            axes.plot([start + s for s in steps], values, color=_BLUE, marker=".", markersize=4)
            start += steps[-1]
            axes.axvline(start + 0.5, color=_GREY, linewidth=0.7, linestyle=":")
        axes.set_title(CURVES[name], fontsize=9, loc="left")
        axes.set_xlabel("step", fontsize=8)
        _tidy(axes)
    return _svg(figure, "Reward, gold, KL and length over training steps; dotted: end of a round")


def reliability(tables: Mapping[str, Sequence[KeptBin]]) -> str | None:
    """Reliability diagram of held-out pairs for each reward model."""
    tables = {name: rows for name, rows in tables.items() if rows}
    if not tables:
        return None
    figure = _figure(3.2 * len(tables), 3.0)
    for place, (name, rows) in enumerate(tables.items()):
        axes = figure.add_subplot(1, len(tables), place + 1)
        axes.plot([0.5, 1], [0.5, 1], color=_GREY, linestyle=":", linewidth=1)
        xs = [row.predicted for row in rows]
        ys = [row.observed.value for row in rows]
        low = [y - row.observed.low for y, row in zip(ys, rows, strict=True)]
        high = [row.observed.high - y for y, row in zip(ys, rows, strict=True)]
        axes.errorbar(xs, ys, yerr=[low, high], fmt="o", color=_BLUE, markersize=4, linewidth=1)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_xlabel("how sure the model is", fontsize=8)
        axes.set_ylabel("how often it is right", fontsize=8)
        axes.set_ylim(0, 1.05)
        _tidy(axes)
    return _svg(figure, "How often the reward model is right, by how sure it is; dotted: ideal")


def win_rates(rounds: Sequence[Round]) -> str | None:
    """Win rate with its interval against KL, of the rounds that somebody judged."""
    done = [
        (r.number, r.evaluation.kl.value, win)
        for r in rounds
        if r.evaluation and (win := win_rate_of(r.evaluation))
    ]
    if not done:
        return None
    figure = _figure(6.4, 2.6)
    axes = figure.add_subplot(1, 1, 1)
    kls = [kl for _, kl, _ in done]
    wins = [win.value for _, _, win in done]
    low = [win.value - win.low for _, _, win in done]
    high = [win.high - win.value for _, _, win in done]
    axes.errorbar(kls, wins, yerr=[low, high], fmt="o-", color=_ORANGE, markersize=5, linewidth=1)
    for number, kl, win in done:
        axes.annotate(f" round {number}", (kl, win.value), fontsize=8)
    axes.axhline(0.5, color=_GREY, linestyle=":", linewidth=1)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("KL from the starting model, nats a sample", fontsize=8)
    axes.set_ylabel("win rate", fontsize=8)
    _tidy(axes)
    return _svg(figure, "Win rate against the starting model, by distance from it")


def _figure(width: float, height: float) -> "Figure":
    # The figure class alone: pyplot would keep global state and look for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _tidy(axes: "Axes") -> None:
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _svg(figure: "Figure", label: str) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # The salt makes the same figure the same text, so that two reports of a run are equal.
    with rc_context({"svg.hashsalt": "backflip", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
