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


class Errors(Record):
    """How far predictions were from published figures that the fit had not seen.

    Attributes:
        left_out: what was left out together: a run at all its thread counts, all figures of an
            architecture, or all of a device.
        figures: how many were predicted so.
        median: of the relative errors, |predicted / published - 1|.
        factor: nine of ten predictions were within this factor of the published figure.
    """

    left_out: Literal["run", "family", "device"]
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

    def error_for(self, device: str) -> Errors:
        """The error that a new network on this device must be expected to have.

        A device that has published figures is known, the network is not; of other devices neither is.
        """
        return self.family if device in self.devices else self.device


class Fitted(Record):
    """The whole of `fitted.json`; `held_out` are predictions for processors that no fit has seen."""

    schema_version: Literal[1] = 1
    cpu: Fit[CpuEfficiency]
    gpu: Fit[GpuEfficiency]
    tpu: Fit[TpuEfficiency]
    held_out: dict[str, Errors]


@cache
def read_fitted() -> Fitted:
    """The fit that ships."""
    return Fitted.model_validate_json(FITTED_FILE.read_text(encoding="utf-8"))
