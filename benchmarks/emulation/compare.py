"""Raw outputs of the emulated engine against the host's, and what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.emulation.result import Expectation, RawDifference
from nanonet_edge.variants import Precision

Array = npt.NDArray[Any]

#: Differences up to this are what the order of additions explains in a float probability.
FLOAT_STEP: Final = 1e-6
#: What is allowed between a LiteRT and itself, 0 to 1 being the scale. The trained networks that
#: ship come to 1.6e-6 on real images.
FLOAT_LIMIT: Final = 1e-5
#: And between other engines, where they come to 2e-5. Arithmetic in half precision would show: it is
#: off by 5e-4 and more.
OTHER_FLOAT_LIMIT: Final = 1e-4


@dataclass(frozen=True)
class Engine:
    """An inference engine and its version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def compare_raw(host: Array, guest: Array) -> RawDifference:
    """Count and size the differences of two arrays of one shape and dtype.

    A value that is finite in one and not in the other, or not the same infinity, counts as
    `not_finite` and not in the figures.
    """
    wide_host, wide_guest = host.astype(np.float64), guest.astype(np.float64)
    odd = ~(np.isfinite(wide_host) & np.isfinite(wide_guest))
    alike = (wide_host == wide_guest) | (np.isnan(wide_host) & np.isnan(wide_guest))
    distance = np.abs(wide_guest[~odd] - wide_host[~odd])
    step = FLOAT_STEP if host.dtype.kind == "f" else 1.0
    return RawDifference(
        values=int(host.size),
        differing=int(np.count_nonzero(distance)),
        max_difference=float(distance.max()) if distance.size else None,
        mean_difference=float(distance.mean()) if distance.size else None,
        step=step,
        beyond=int(np.count_nonzero(distance > step)),
        not_finite=int(np.count_nonzero(odd & ~alike)),
    )


def expectation(precision: Precision, guest: Engine, host: Engine) -> Expectation:
    """What the raw outputs of the same artifact on guest and host must be.

    LiteRT's int8 kernels compute the same integers on both, so one bit more is a fault. Two
    engines, or two versions, round within their kernels as they like, and so does onnxruntime, whose
    kernels for int8 differ by architecture: a network amplifies that, so only masks can be judged.
    """
    is_same = guest == host
    is_litert = is_same and guest.name == "litert"
    if precision.is_float:
        limit = FLOAT_LIMIT if is_litert else OTHER_FLOAT_LIMIT
        return Expectation(limit=limit, reason="float arithmetic, up to the order of additions")
    if precision is Precision.STATIC_WI8_AI8 and is_litert:
        return Expectation(limit=0.0, reason="integer kernels of one LiteRT: bit-identical")
    who = "its integer kernels differ by architecture" if is_same else f"the host ran {host}"
    return Expectation(limit=None, reason=f"{who}: only masks are judged")


def shortfall(raw: RawDifference, expected: Expectation) -> str | None:
    """How raw outputs miss what is expected of them; None where they do not."""
    if raw.not_finite:
        return f"{raw.not_finite} values are NaN or infinite on one side only"
    if expected.limit is None or raw.max_difference is None or raw.max_difference <= expected.limit:
        return None
    asked = "bit-identical outputs" if expected.limit == 0 else f"outputs within {expected.limit:g}"
    return (
        f"expected {asked} of guest and host, found {raw.differing} of {raw.values} values to differ, "
        f"by up to {raw.max_difference:.3g}"
    )
