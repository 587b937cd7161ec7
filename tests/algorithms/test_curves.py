"""What the algorithms' pages quote of their curves is what the pictures show."""

import re
from pathlib import Path

import numpy as np
import pytest

from backflip.algorithms import ALGORITHMS

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = r"-?\d+(?:\.\d+)?"


def curves(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, rounds + 1) gold and KL, read off the lines of the picture against its ticks."""
    picture = (DOCS / "images" / f"curve-{name}.svg").read_text()
    return tuple(map(lines, re.split(r'<g id="axes_\d+"', picture)[1:]))


def lines(axes: str) -> np.ndarray:
    """The thin lines of a plot, in the units of its second axis."""
    ticks = re.findall(
        r'<use xlink:href="#\w+" x="[\d.]+" y="([\d.]+)".*?<!-- (\S+) -->',
        re.split(r'<g id="matplotlib\.axis_\d+"', axes)[2],
        flags=re.DOTALL,
    )
    places, values = zip(
        *((float(y), float(v.replace("\N{MINUS SIGN}", "-"))) for y, v in ticks), strict=True
    )
    slope, start = np.polyfit(places, values, 1)
    thin = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none; stroke: #888', axes)
    return np.array(
        [[slope * float(y) + start for y in re.findall(r"[ML] \S+ (\S+)", path)] for path in thin]
    )


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_figures_are_those_of_the_picture(name: str) -> None:
    page = " ".join((DOCS / "algorithms" / f"{name}.md").read_text().split())
    gold, kl = curves(name)
    assert gold.shape == kl.shape == (5, 5)
    assert np.abs(kl[:, 0]).max() < 0.05
    (start,) = re.findall(rf"from about ({NUMBER})", page)
    assert gold[:, 0].mean() == pytest.approx(float(start), abs=0.5)
    for table, told in ((gold, r"ends at"), (kl, r"KL, in nats a clip, at")):
        (quoted,) = re.findall(rf"{told} ((?:{NUMBER}, ){{3}}{NUMBER} and {NUMBER})", page)
        expected = [float(x) for x in re.findall(NUMBER, quoted)]
        assert table[:, -1].tolist() == pytest.approx(expected, abs=0.06)
