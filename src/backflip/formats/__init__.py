"""Feedback in files: Backflip's own formats and those of others, read and written.

for row in read("hh.jsonl.gz"):            # Labelled, or Rejected with file, line and reason
    ...
report = import_file(ws, "hh.jsonl.gz", axis="safe")
export_file(ws, "votes.parquet", "trl-preference", kinds="comparison")
"""

from backflip.data.rows import Rejected
from backflip.formats.argilla import argilla_user_id
from backflip.formats.base import Format, Labelled
from backflip.formats.registry import FORMATS, Written, detect, find_format, read, register, write
from backflip.formats.rewardbench import bench_subset
from backflip.formats.transfer import ImportReport, export_file, import_file

__all__ = [
    "FORMATS",
    "Format",
    "ImportReport",
    "Labelled",
    "Rejected",
    "Written",
    "argilla_user_id",
    "bench_subset",
    "detect",
    "export_file",
    "find_format",
    "import_file",
    "read",
    "register",
    "write",
]
