"""What a measuring process is asked and what it answers: one JSON object per line.

Requests arrive on its stdin: a `LoadRequest` first, then any number of the others. Each gets
one `Reply` on the pipe that was its stdout when it started. It ends when its stdin does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from nanonet_edge.manifest import Record
from nanonet_edge.results import Measurement, RuntimeInfo


class LoadRequest(Record):
    """Load an artifact of a bundle on a runtime; `artifact` is None for its reference weights."""

    op: Literal["load"] = "load"
    bundle: str
    artifact: str | None
    spec: str
    threads: int = Field(ge=1)

    @property
    def subject(self) -> str:
        """What is loaded, in words."""
        return self.artifact or "the reference"


class DescribeRequest(Record):
    """Tell what the engine says of itself; it may load the model once more to find out."""

    op: Literal["describe"] = "describe"


class RoundRequest(Record):
    """Time the engine, or whole frames, for one short round without warming up."""

    op: Literal["round"] = "round"
    scope: Literal["invoke", "frame"] = "invoke"
    min_seconds: float = Field(ge=0)
    min_count: int = Field(ge=1)


class MeasureRequest(Record):
    """Measure everything, both scopes; with `fps` or `sustained_minutes` those modes too."""

    op: Literal["measure"] = "measure"
    min_seconds: float = Field(ge=0)
    min_count: int = Field(ge=1)
    fps: float | None = Field(default=None, gt=0)
    sustained_minutes: float | None = Field(default=None, gt=0)


Request = LoadRequest | DescribeRequest | RoundRequest | MeasureRequest
REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="op")])


class Reply(Record):
    """The answer to one request: what was asked for, or an error in one line.

    A load is answered with `first_ns`, how long the first inference took.
    """

    error: str | None = None
    first_ns: int | None = None
    runtime: RuntimeInfo | None = None
    samples_ns: tuple[int, ...] | None = None
    measurement: Measurement | None = None
