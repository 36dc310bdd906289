"""The fitted efficiencies and their errors, as `fit` writes them: predicting needs no SciPy."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import Field

from nanonet_edge.benchmarks.prediction.roofline import CpuEfficiency, GpuEfficiency, TpuEfficiency
from nanonet_edge.manifest import Record

FITTED_FILE = Path(__file__).with_name("fitted.json")

Efficiency = TypeVar("Efficiency", CpuEfficiency, GpuEfficiency, TpuEfficiency)
LeftOut = Literal["run", "family", "device", "both"]


class Errors(Record):
    """How far predictions were from published figures that the fit had not seen.

    Attributes:
        left_out: what was left out together: a run at all its thread counts, all figures of an
            architecture, all of a device, or both of these.
        figures: how many were predicted so.
        median: of the relative errors, |predicted / published - 1|.
        factor: nine of ten predictions were within this factor of the published figure.
    """

    left_out: LeftOut
    figures: int = Field(gt=0)
    median: float = Field(ge=0)
    factor: float = Field(ge=1)


class Fit(Record, Generic[Efficiency]):
    """One kind of processor: its efficiencies, errors by what was left out, devices that had figures."""

    efficiency: Efficiency
    figures: int = Field(gt=0)
    devices: tuple[str, ...]
    in_sample_median: float
    run: Errors
    family: Errors
    device: Errors
    both: Errors

    def error_for(self, device: str) -> Errors:
        """The error that a new network on this device must be expected to have.

        A device that has published figures is known, the network is not. Of other devices neither is:
        the worse of two errors counts, as leaving more out of few figures can seem better by chance.
        """
        if device in self.devices:
            return self.family
        return max(self.device, self.both, key=lambda error: error.factor)


class Fitted(Record):
    """The whole of `fitted.json`.

    `held_out` are the errors on processors that no fit has seen; what ran there it has seen elsewhere.
    """

    schema_version: Literal[1] = 1
    cpu: Fit[CpuEfficiency]
    gpu: Fit[GpuEfficiency]
    tpu: Fit[TpuEfficiency]
    held_out: dict[str, Errors]


@cache
def read_fitted() -> Fitted:
    """The fit that ships."""
    return Fitted.model_validate_json(FITTED_FILE.read_text(encoding="utf-8"))
