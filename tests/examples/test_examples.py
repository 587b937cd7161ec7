"""Examples run as they stand, and show what they say."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_rlhf_from_scratch_is_short_and_learns_what_people_prefer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = EXAMPLES / "rlhf_from_scratch.py"
    assert len(path.read_text().splitlines()) < 150
    spec = importlib.util.spec_from_file_location("rlhf_from_scratch", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    share = example.main(tmp_path)
    told = capsys.readouterr().out
    # A model that learned nothing is kinder half of the time; of 144 replies that is off by 0.04.
    assert share > 0.62, told
    assert "kinder than before" in told
