"""What keeps a run from working, or may: told before anything is done."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from backflip.errors import BackflipError
from backflip.records.base import Record


class Problem(Record):
    """One thing that is wrong with what a run was given.

    Attributes:
        what: is wrong.
        where: a key of the recipe, or a file and the row in it.
        hint: what to do about it.
        fatal: False for a warning: the run can be carried out all the same.
    """

    what: str
    where: str | None = None
    hint: str | None = None
    fatal: bool = True

    @classmethod
    def of(cls, error: BackflipError, where: str | None = None) -> Self:
        """An error as a problem; `where` counts for errors that name no place."""
        return cls(what=error.what, where=error.where or where, hint=error.hint)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass
class Findings:
    """What a check found: problems, and figures of what was checked, by part and name."""

    problems: list[Problem] = field(default_factory=list[Problem])
    facts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    _said: set[str] = field(default_factory=set[str], repr=False)

    @property
    def fatal(self) -> list[Problem]:
        """The problems that keep a run from working."""
        return [problem for problem in self.problems if problem.fatal]

    @property
    def warnings(self) -> list[Problem]:
        """The others."""
        return [problem for problem in self.problems if not problem.fatal]

    def add(self, what: str, where: str, hint: str | None = None, *, fatal: bool = True) -> None:
        """Note a problem; the same one counts once."""
        self.note(Problem(what=what, where=where, hint=hint, fatal=fatal))

    def note(self, problem: Problem) -> None:
        """Note a problem; the same one counts once."""
        if (said := str(problem)) not in self._said:
            self._said.add(said)
            self.problems.append(problem)

    @contextmanager
    def noting(self, where: str | None = None) -> Generator[None]:
        """Note an error that the user can mend, and go on behind the block."""
        try:
            yield
        except BackflipError as error:
            self.note(Problem.of(error, where))
