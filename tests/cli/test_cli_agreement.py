"""How far annotators agree, as the counts of feedback tell it."""

import json
from pathlib import Path

import pytest
from cli_desk import done


def give(folder: Path, annotator: str, labels: list[bool]) -> None:
    """Thumbs of one annotator on the same replies."""
    rows = [
        {"prompt": f"How is it, {i}?", "completion": "Fine.", "label": label}
        for i, label in enumerate(labels)
    ]
    file = folder / "votes.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    done("feedback", "import", file, "-w", folder / "w", "--annotator", annotator)


def test_stats_say_how_far_people_agree(tmp_path: Path) -> None:
    give(tmp_path, "mia", [True, True, False, False, True])
    alone = done("feedback", "stats", "-w", tmp_path / "w", "--json").json
    assert alone["agreement"] == []
    assert "alpha" not in done("feedback", "stats", "-w", tmp_path / "w").out
    give(tmp_path, "noah", [True, True, False, True])
    (found,) = done("feedback", "stats", "-w", tmp_path / "w", "--json").json["agreement"]
    assert (found["kind"], found["axis"]) == ("good_bad", "overall")
    assert (found["num_units"], found["num_pairs"], found["raw"]) == (4, 4, 0.75)
    # Eight values on shared items, five good and three bad; two of the eight stand in a pair that
    # disagrees: 1 - (2 / 8) / (2 * 5 * 3 / (8 * 7)).
    assert found["alpha"] == pytest.approx(1 - (2 / 8) / (30 / 56))
    out = done("feedback", "stats", "-w", tmp_path / "w").out
    assert ["good_bad", "overall", "4", "75%", "0.53"] in [
        line.split() for line in out.splitlines()
    ]


def test_where_all_say_the_same_there_is_no_alpha(tmp_path: Path) -> None:
    give(tmp_path, "mia", [True, True])
    give(tmp_path, "noah", [True, True])
    out = done("feedback", "stats", "-w", tmp_path / "w").out
    assert ["good_bad", "overall", "2", "100%"] in [line.split() for line in out.splitlines()]
