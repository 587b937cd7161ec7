"""The report of a run: a summary for the terminal, and one HTML file that needs nothing else."""

from backflip.evaluation.report.gather import Facts, Round, gather
from backflip.evaluation.report.page import write_report
from backflip.evaluation.report.words import summary

__all__ = ["Facts", "Round", "gather", "summary", "write_report"]
