"""docs/families.md says of every family what it is found to do."""

from pathlib import Path

import numpy as np
import pytest
from brought import SCORED

from backflip.models.limits import position_limit
from backflip.models.probes import reads_packed_rows, reads_shared_rows
from backflip.sampling.aligned import AlignedDecoder
from backflip.sampling.fast import FastDecoder
from backflip.sampling.probe import pick_decoder
from families import FAMILIES, build_family

DECODERS = {"fast": FastDecoder, "aligned": AlignedDecoder}
PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def table() -> dict[str, list[str]]:
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = cells
    return rows


def test_every_family_has_a_row():
    assert list(table()) == list(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_says_what_the_family_does(family):
    evaluated, rows, merged, scores, sampled, dpo, ppo, prompt, longest = table()[family]
    model = build_family(family, vocabulary=64)
    assert rows.partition(",")[0] == ("packed" if reads_packed_rows(model) else "apart")
    assert prompt == ("one copy" if reads_shared_rows(model) else "its own")
    assert longest == ("any" if position_limit(model.config) is None else "positions")
    assert (scores == "refused") == (family not in SCORED)
    decoder, _, drawn = sampled.partition(", ")
    assert type(pick_decoder(model, np.empty(0, np.int32))) is DECODERS[decoder]
    numbers = [evaluated, rows.partition(", ")[2], merged, drawn, dpo, ppo]
    measured = numbers + [scores] * (family in SCORED)
    assert all(0 < float(number) < 1e-4 for number in measured)
