"""What a format is: one row of a file to samples and an entry of feedback, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backflip.data.fields import Fields
from backflip.data.turns import uses_tools
from backflip.records import Prompt, Sample
from backflip.records.feedback import FeedbackBase

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_FILES = (".jsonl", ".ndjson", ".json")
ANY_FILE = (*TEXT_FILES, ".parquet")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Feedback and every sample that it speaks of."""

    samples: tuple[Sample, ...]
    entries: tuple[FeedbackBase, ...]


@dataclass(frozen=True)
class Origin:
    """What the rows of a file are put down to when they do not say themselves.

    Attributes:
        file: name of the file or data set, without its folder: the same file moved elsewhere is
            still the same.
        annotator: who answered.
        axis: what was judged.
        place: of the row, FILE:LINE; the source of the prompts in it.
    """

    file: str
    annotator: str
    axis: str
    place: str = ""

    def fields(self) -> dict[str, Any]:
        """Fields of an imported entry."""
        return {
            "annotator": self.annotator,
            "axis": self.axis,
            "origin": f"import:{self.file}",
        }


@dataclass(frozen=True)
class RenderOptions:
    """How rows are written.

    Attributes:
        plain: prompts and replies are texts where turns are usual.
        columns: the file is one of columns, in which all turns have the same fields.
    """

    plain: bool = False
    columns: bool = False


def _no_columns(options: RenderOptions) -> "pa.Schema":
    raise TypeError("the format is kept in no Parquet file")


@dataclass(frozen=True)
class Format:
    """A format by name.

    Attributes:
        name: as given on the command line.
        summary: one line for people who choose a format.
        suits: whether a row looks like one of this format.
        parse: a row to samples and entries; raises `ValueError` with the reason it cannot be.
            Fields that it leaves unread are told as such.
        render: an entry and its samples by id to a row; `ValueError` with the reason likewise.
        schema: columns of a Parquet file, by the options it is written with; of no use where
            `files` has none.
        files: kinds of file it is kept in.
        exact: rows carry all fields of samples and entries, so that none is made up in reading.
    """

    name: str
    summary: str
    suits: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Fields, Origin], Labelled]
    render: Callable[[FeedbackBase, Mapping[str, Sample], RenderOptions], dict[str, Any]]
    schema: "Callable[[RenderOptions], pa.Schema]" = _no_columns
    files: tuple[str, ...] = ANY_FILE
    exact: bool = False


def text_of(sample: Sample) -> str:
    """The reply of a text sample; a `ValueError` for a clip or an empty one."""
    if sample.content.type != "completion":
        raise ValueError("a clip has no text")
    if not sample.text.strip():
        raise ValueError("a reply is empty")
    return sample.text


def same_prompt(first: Sample, second: Sample) -> None:
    """Refuse a pair whose samples answer different prompts."""
    if first.prompt_id != second.prompt_id:
        raise ValueError("the two replies answer different prompts")


def without_images(prompt: Prompt, what: str) -> None:
    """Refuse a prompt with images; `what` names that which has no place for them."""
    if prompt.images:
        raise ValueError(f"{what} has no place for images")


def without_tools(prompt: Prompt, what: str) -> None:
    """Refuse a prompt with tools; `what` names that which has no place for them."""
    if prompt.tools or uses_tools(prompt.messages):
        raise ValueError(f"{what} has no place for tools and their turns")
