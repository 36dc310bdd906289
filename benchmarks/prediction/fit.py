"""Fit the efficiencies on published latencies, and say how wrong the fit is on what it has not seen.

    python -m nanonet_edge.benchmarks.prediction.fit            # prints the fit and its errors
    python -m nanonet_edge.benchmarks.prediction.fit --write FILE.json

Least squares of the logarithm of predicted over published, with a loss that outliers pull less
(soft L1); figures of one run at several thread counts count as one. A weak prior keeps a parameter
that the figures leave open near what is typical. The error is that of figures left out: run by
run, architecture by architecture, device by device, and with both an architecture and a device unseen.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic

import numpy as np
import numpy.typing as npt

from nanonet_edge.atomic import write_text
from nanonet_edge.benchmarks.prediction.costs import Arithmetic, NetworkCost
from nanonet_edge.benchmarks.prediction.fitted import FITTED_FILE, Efficiency, Errors, Fit, Fitted, LeftOut
from nanonet_edge.benchmarks.prediction.latencies import (
    PublishedFigure,
    Unit,
    published_rates,
    read_latencies,
    shipped_profile,
)
from nanonet_edge.benchmarks.prediction.networks import NETWORKS
from nanonet_edge.benchmarks.prediction.rates import (
    GpuRates,
    TpuRates,
    gpu_rates,
    tpu_rates,
)
from nanonet_edge.benchmarks.prediction.roofline import (
    CostArrays,
    CpuEfficiency,
    GpuEfficiency,
    TpuEfficiency,
    cpu_seconds,
    gpu_ceilings,
    operator_seconds,
    tpu_seconds,
)
from nanonet_edge.extras import require

Floats = npt.NDArray[np.float64]

#: What figures have in common that are left out together.
_SHARED: Final[Mapping[LeftOut, tuple[str, ...]]] = {
    "run": ("run",),
    "family": ("family",),
    "device": ("device",),
    "both": ("family", "device"),
}

#: Published figures differ by about this much, as a share, from version to version.
_NOISE: Final = 0.15
#: What is typical, and by how many e-folds a parameter may reasonably differ from it.
_CPU_PRIOR: Final = {
    "conv": (0.4, 0.7),
    "pointwise": (0.4, 0.7),
    "depthwise": (0.2, 0.7),
    "int8": (1.0, 0.5),
    "int8_dot": (0.5, 0.5),
    "move_bytes_per_cycle": (2.0, 1.0),
    "memory": (0.5, 0.7),
    "one_core_memory": (0.6, 0.5),
    "overhead_cycles": (5000.0, 1.0),
    "serial": (0.1, 1.0),
    "in_order": (0.7, 0.5),
    "builtin": (1.5, 0.5),
}
_GPU_PRIOR: Final = {
    "conv": (0.3, 0.7),
    "pointwise": (0.3, 0.7),
    "depthwise": (0.1, 0.7),
    "memory": (0.5, 0.7),
    "overhead_us": (10.0, 1.0),
}
_TPU_PRIOR: Final = {"compute": (0.2, 1.0), "link": (0.8, 0.5), "invoke_us": (1000.0, 1.0)}


@dataclass(frozen=True)
class Problem(Generic[Efficiency]):
    """What is fitted: the efficiencies' type, their prior, and the model, which gives milliseconds."""

    efficiency: type[Efficiency]
    prior: Mapping[str, tuple[float, float]]
    predict: Callable[[PublishedFigure, Efficiency], float]

    def at(self, point: Floats) -> Efficiency:
        """The efficiencies at a point of the search, which goes over logarithms."""
        values = {name: float(value) for name, value in zip(self.prior, np.exp(point), strict=True)}
        if "serial" in values:
            values["serial"] = min(values["serial"], 0.9)
        return self.efficiency(**values)

    def solve(self, figures: Sequence[PublishedFigure], start: Efficiency | None = None) -> Efficiency:
        """The efficiencies that explain the figures best; the search begins at `start`."""
        optimize: Any = require("scipy.optimize")
        siblings = Counter(figure.run for figure in figures)
        weights = np.array([siblings[figure.run] ** -0.5 for figure in figures]) / _NOISE
        published = np.log([figure.ms for figure in figures])
        typical = np.log([value for value, _ in self.prior.values()])
        spread = np.array([spread for _, spread in self.prior.values()])

        def residuals(point: Floats) -> Floats:
            efficiency = self.at(point)
            predicted = np.log([self.predict(figure, efficiency) for figure in figures])
            return np.concatenate([(predicted - published) * weights, (point - typical) / spread])

        first = typical if start is None else np.log([getattr(start, name) for name in self.prior])
        return self.at(optimize.least_squares(residuals, first, loss="soft_l1", ftol=1e-4).x)

    def ratios(self, figures: Sequence[PublishedFigure], efficiency: Efficiency) -> Floats:
        """Predicted over published."""
        return np.array([self.predict(figure, efficiency) / figure.ms for figure in figures])

    def left_out(
        self, figures: Sequence[PublishedFigure], what: LeftOut, start: Efficiency | None = None
    ) -> Errors:
        """The error on figures that the fit has not seen: every group is predicted once.

        Predicted from the figures that share nothing of `what` with it: for "both" neither the
        architecture nor the device. Where no figure is left, the prior alone predicts.
        """

        def group(figure: PublishedFigure) -> tuple[str, ...]:
            return tuple(getattr(figure, name) for name in _SHARED[what])

        ratios = []
        for wanted in dict.fromkeys(group(figure) for figure in figures):
            unseen = [figure for figure in figures if group(figure) == wanted]
            seen = [figure for figure in figures if not set(group(figure)) & set(wanted)]
            ratios.append(self.ratios(unseen, self.solve(seen, start)))
        return errors(what, np.concatenate(ratios))

    def fit(self, figures: Sequence[PublishedFigure]) -> Fit[Efficiency]:
        """The fit on all figures, and its errors on figures left out."""
        efficiency = self.solve(figures)
        return Fit[self.efficiency](  # type: ignore[name-defined]
            efficiency=_rounded(efficiency),
            figures=len(figures),
            devices=tuple(sorted({figure.device for figure in figures})),
            in_sample_median=round(float(np.median(np.abs(self.ratios(figures, efficiency) - 1))), 4),
            run=self.left_out(figures, "run", efficiency),
            family=self.left_out(figures, "family", efficiency),
            device=self.left_out(figures, "device", efficiency),
            both=self.left_out(figures, "both", efficiency),
        )


def errors(what: LeftOut, ratios: Floats) -> Errors:
    """The errors of predictions, from their ratios to the published figures."""
    return Errors(
        left_out=what,
        figures=len(ratios),
        median=round(float(np.median(np.abs(ratios - 1))), 4),
        factor=round(float(np.exp(np.quantile(np.abs(np.log(ratios)), 0.9))), 4),
    )


def _rounded(efficiency: Efficiency) -> Efficiency:
    return type(efficiency)(**{name: float(f"{value:.4g}") for name, value in efficiency})


def problems() -> tuple[Problem[CpuEfficiency], Problem[GpuEfficiency], Problem[TpuEfficiency]]:
    """The three models: processors, GPUs with TensorRT, Edge TPUs."""
    return (
        Problem(CpuEfficiency, _CPU_PRIOR, predict_cpu),
        Problem(GpuEfficiency, _GPU_PRIOR, predict_gpu),
        Problem(TpuEfficiency, _TPU_PRIOR, predict_tpu),
    )


def predict_cpu(figure: PublishedFigure, efficiency: CpuEfficiency) -> float:
    """Milliseconds of a published figure's network on its processor."""
    rates = published_rates(figure.device)
    arrays = _arrays(figure.network, figure.arithmetic)
    factor = efficiency.builtin if figure.engine == "tflite-builtin" else 1.0
    return 1e3 * factor * cpu_seconds(arrays, rates, efficiency, figure.threads or rates.cores)


def predict_gpu(figure: PublishedFigure, efficiency: GpuEfficiency) -> float:
    """Milliseconds of a published figure's network on its GPU."""
    ceilings = gpu_ceilings(_gpu(figure.device), efficiency)
    return 1e3 * float(operator_seconds(_arrays(figure.network, figure.arithmetic), ceilings).sum())


def predict_tpu(figure: PublishedFigure, efficiency: TpuEfficiency) -> float:
    """Milliseconds of a published figure's network on its Edge TPU."""
    cost = _cost(figure.network, figure.arithmetic)
    moved = cost.input_bytes + cost.output_bytes
    return 1e3 * tpu_seconds(2.0 * cost.macs, cost.weight_bytes, moved, _tpu(figure.device), efficiency)


@cache
def _cost(network: str, arithmetic: Arithmetic) -> NetworkCost:
    return NETWORKS[network]().cost(arithmetic)


@cache
def _arrays(network: str, arithmetic: Arithmetic) -> CostArrays:
    return CostArrays.of(_cost(network, arithmetic))


@cache
def _gpu(device: str) -> GpuRates:
    return gpu_rates(shipped_profile(device))


@cache
def _tpu(device: str) -> TpuRates:
    return tpu_rates(shipped_profile(device))


def figures_of(unit: Unit) -> tuple[list[PublishedFigure], list[PublishedFigure]]:
    """The published figures of one kind of processor: to fit on, and held out for want of a profile."""
    published = read_latencies()
    figures = [one for one in published.latencies if one.unit == unit]
    held = [one for one in figures if one.device in published.processors]
    return [one for one in figures if one.device not in published.processors], held


def fit_all() -> Fitted:
    """Fit all three models: about a minute on one core."""
    cpu, gpu, tpu = problems()
    figures, held = figures_of("cpu")
    fitted = cpu.fit(figures)
    return Fitted(
        cpu=fitted,
        gpu=gpu.fit(figures_of("gpu")[0]),
        tpu=tpu.fit(figures_of("tpu")[0]),
        held_out={
            device: errors(
                "device", cpu.ratios([one for one in held if one.device == device], fitted.efficiency)
            )
            for device in dict.fromkeys(one.device for one in held)
        },
    )


def _print(fitted: Fitted) -> None:
    cpu, gpu, tpu = problems()
    _print_fit("cpu", cpu, fitted.cpu)
    _print_fit("gpu", gpu, fitted.gpu)
    _print_fit("tpu", tpu, fitted.tpu)
    for device, error in fitted.held_out.items():
        print(f"{device}, which no fit has seen: median error {error.median:.1%}")


def _print_fit(unit: Unit, problem: Problem[Efficiency], fit: Fit[Efficiency]) -> None:
    print(f"{unit}: {fit.figures} published figures of {', '.join(fit.devices)}")
    print("  efficiencies: " + ", ".join(f"{name} {value:g}" for name, value in fit.efficiency))
    print(f"  seen figures: median error {fit.in_sample_median:.1%}")
    for error in (fit.run, fit.family, fit.device, fit.both):
        print(
            f"  {error.left_out} left out: median error {error.median:.1%}, "
            f"nine of ten within a factor of {error.factor:.2f}"
        )
    for figure in (one for group in figures_of(unit) for one in group):
        predicted = problem.predict(figure, fit.efficiency)
        print(f"    {figure.label}: published {figure.ms:g} ms, predicted {predicted:.1f} ms")


def main() -> None:
    """Fit, print, and write or compare."""
    parser = argparse.ArgumentParser(description="Fit the prediction model on published latencies.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Write the fit as JSON.")
    arguments = parser.parse_args()
    fitted = fit_all()
    _print(fitted)
    if arguments.write is not None:
        write_text(arguments.write, fitted.model_dump_json(indent=2) + "\n")
    elif FITTED_FILE.is_file():
        same = Fitted.model_validate_json(FITTED_FILE.read_text(encoding="utf-8")) == fitted
        print(f"the fit that ships is {'the same' if same else 'another'}")


if __name__ == "__main__":
    main()
