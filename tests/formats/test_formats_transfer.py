"""Files into a workspace and out of it, on SQLite and PostgreSQL."""

import json

import pytest

from backflip.errors import FormatError
from backflip.formats import export_file, import_file, read, write

ROWS = [{"prompt": f"Q{i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(300)]


@pytest.fixture
def votes(tmp_path):
    path = tmp_path / "votes.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    lines[3] = '{"prompt": "Q3?", "chosen": "same", "rejected": "same"}'
    lines[280] = "not json"
    path.write_text("\n".join(lines))
    return path


def test_an_import_keeps_good_rows_reports_bad_ones_and_counts_once(workspace, votes):
    done = []
    report = import_file(workspace, votes, annotator="mia", axis="helpful", advance=done.append)
    assert (report.format, report.file) == ("trl-preference", "votes.jsonl")
    assert (report.entries, report.new, report.samples) == (298, 298, 596)
    assert [(r.line, r.reason.split(":")[0]) for r in report.rejected] == [
        (4, "chosen and rejected are the same reply"),
        (281, "not valid JSON"),
    ]
    assert (report.num_rejected, sum(done)) == (2, 300)
    entries = workspace.journal.active()
    assert {(e.annotator, e.axis, e.origin) for e in entries} == {
        ("mia", "helpful", "import:votes.jsonl")
    }
    (annotator,) = workspace.annotators.all()
    assert (annotator.name, annotator.group) == ("mia", "import")

    again = import_file(workspace, votes, annotator="mia", axis="helpful")
    assert (again.new, again.known, again.samples) == (0, 298, 0)
    assert workspace.journal.count() == 298


def test_an_import_that_was_interrupted_is_finished_by_running_it_again(workspace, votes):
    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(workspace, votes, advance=interrupt)
    kept = workspace.journal.count()
    assert 0 < kept < 298
    report = import_file(workspace, votes)
    assert (report.entries, report.new) == (298, 298 - kept)
    assert workspace.journal.count() == 298


def test_an_export_holds_what_is_active_and_asked_for(workspace, votes, tmp_path):
    import_file(workspace, votes, axis="helpful")
    import_file(workspace, votes, axis="safe")
    first = workspace.journal.active(axis="helpful")[0]
    workspace.journal.retract(first.id, "a slip", "mia")
    path = tmp_path / "out.parquet"
    written = export_file(workspace, path, "trl-preference", axis="helpful", plain=True)
    assert written.rows == 297
    back = [(r.samples[0].prompt.text, *(s.text for s in r.samples)) for r in read(path)]
    wanted = [tuple(row.values()) for i, row in enumerate(ROWS) if i not in (0, 3, 280)]
    assert back == wanted


def test_a_whole_workspace_moves_to_another(workspace, votes, tmp_path):
    from backflip.workspace import Workspace

    import_file(workspace, votes)
    path = tmp_path / "all.jsonl.gz"
    export_file(workspace, path, "backflip-jsonl")
    with Workspace.create(tmp_path / "other") as other:
        report = import_file(other, path)
        assert report.num_rejected == 0
        assert other.journal.active() == workspace.journal.active()
        ids = [id_ for e in other.journal.active() for id_ in e.sample_ids]
        here, there = workspace.samples.get(ids), other.samples.get(ids)
        assert list(here) == list(there)
        assert [s.prompt.id for s in here.values()] == [s.prompt.id for s in there.values()]
        assert [s.text for s in here.values()] == [s.text for s in there.values()]


def test_names_that_cannot_be_used_are_refused_before_anything_is_read(workspace, votes):
    for names in ({"annotator": ""}, {"axis": "a\nb"}):
        with pytest.raises(FormatError, match="control characters"):
            import_file(workspace, votes, **names)
    assert workspace.journal.count() == 0


def test_reading_and_writing_never_hold_the_whole_file(tmp_path):
    """Rows come out as they go in: the first is read before the last is written."""
    seen = []

    def rows():
        for i, row in enumerate(read(tmp_path / "in.jsonl")):
            seen.append(i)
            yield row

    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    generator = rows()
    next(generator)
    assert seen == [0]
    assert write(tmp_path / "out.jsonl", "trl-preference", generator).rows == len(ROWS) - 1
