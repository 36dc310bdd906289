"""What the paper prints about its seven networks, figure by figure, with its table.

The figures lie in `published.json` as the paper prints them. They were obtained on another
machine, and nothing here may be mistaken for a measurement.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from nanonet_edge.manifest import Record

_FILE = Path(__file__).with_name("published.json")


class Paper(Record):
    """Where the figures come from: `text` is what was read, `machine` what the paper ran on."""

    citation: str
    text: str
    machine: str
    notes: tuple[str, ...]


class PublishedFigures(Record):
    """One row of a table; None where the table prints a dash. `fps` is the paper's own measure."""

    parameters: int | None
    dsc: float = Field(ge=0, le=1)
    miou: float = Field(ge=0, le=1)
    recall: float = Field(ge=0, le=1)
    precision: float = Field(ge=0, le=1)
    f2: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)
    fps: float = Field(gt=0)


class PublishedTable(Record):
    """One table of the paper: its number, its dataset, and rows by the network's name here."""

    table: str
    dataset: str
    rows: dict[str, PublishedFigures]


class Publication(Record):
    """The whole of `published.json`."""

    paper: Paper
    tables: tuple[PublishedTable, ...]

    def table(self, number: str) -> PublishedTable:
        """The table of that Roman number."""
        return next(table for table in self.tables if table.table == number)


def read_publication() -> Publication:
    """The figures of the CBMS 2021 paper, Tables II to VI."""
    return Publication.model_validate_json(_FILE.read_text(encoding="utf-8"))
