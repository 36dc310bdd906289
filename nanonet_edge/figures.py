"""One figure: a number with its unit and how it was obtained, or the reason why there is none."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from nanonet_edge.manifest import Record

#: measured: ran on that device; emulated: its binaries under an emulator; predicted: from a
#: model of the device; replayed: from a recording.
Obtained = Literal["measured", "emulated", "predicted", "replayed"]


class Figure(Record):
    """One number with its unit, or the reason why there is none."""

    obtained: Obtained
    unit: str
    value: float | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("expected either a value or a reason")
        return self
