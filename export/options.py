"""What to export: every choice, its default, and which choices exclude each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.export.calibration import Rounding
from nanonet_edge.export.coral import CORAL_PAIR
from nanonet_edge.export.mixed import DEFAULT_MIN_DICE, DEFAULT_TRIALS
from nanonet_edge.export.precision import combinations
from nanonet_edge.export.ranges import Method
from nanonet_edge.export.writers import Boundary
from nanonet_edge.variants import DEFAULT_SIZE, Format, Head, Precision, Target, Topology, check_size

DEFAULT_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.STATIC_WI8_AI8)
DEFAULT_VARIANT = "c"
DEFAULT_SAMPLES = 128
DEFAULT_METHOD: Method = "mse"
DEFAULT_ROUNDING: Rounding = "compensated"

Report = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What to export; every field has a default that works.

    Attributes:
        variant: a name in `nanonet_edge.variants.NETWORKS`, such as "a"; None recognises it in
            `weights`, and means C without any.
        weights: a checkpoint; None takes the one shipped for variant and topology.
        untrained: random weights instead, to measure speed before there are trained ones.
        topology: None recognises it in `weights`, and means `released` for shipped ones.
        size: input height and width in pixels, a multiple of 32.
        formats: empty for all three; named ones must be able to do every precision.
        precisions: empty for fp32, fp16 and static_wi8_ai8.
        target: an accelerator to write one more artifact for. Coral needs TFLite at static_wi8_ai8, which
            formats and precisions are then by default.
        compiles: run the target's compiler if it is installed.
        boundary: head, input dtype, channel order and layout.
        straight: keep the unrewritten graph, through the stock converters.
        calibration: a folder of images.
        verification: a folder of images that will judge the result: none may be calibrated with.
        samples, seed: how many calibration images are drawn, and how.
        method: how ranges are chosen from what was seen.
        rounding: how weights are rounded; "nearest" is there for comparison.
        prepares: bring channels to like ranges for 8 bits; off is there for comparison.
        min_dice: mean Dice with the float graph's masks that precision `mixed` must reach.
        max_kib: the TFLite file of precision `mixed` gets no larger, even if it misses `min_dice`.
        max_ms: nor slower in LiteRT on one thread of this machine (median of an inference).
        trials: how many frames judge it.
    """

    variant: str | None = None
    weights: Path | None = None
    untrained: bool = False
    topology: Topology | None = None
    size: int = DEFAULT_SIZE
    formats: tuple[Format, ...] = ()
    precisions: tuple[Precision, ...] = ()
    target: Target | None = None
    compiles: bool = True
    boundary: Boundary = field(default_factory=Boundary)
    straight: bool = False
    calibration: Path | None = None
    verification: Path | None = None
    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    method: Method = DEFAULT_METHOD
    rounding: Rounding = DEFAULT_ROUNDING
    prepares: bool = True
    min_dice: float = DEFAULT_MIN_DICE
    max_kib: float | None = None
    max_ms: float | None = None
    trials: int = DEFAULT_TRIALS

    def pairs(self, report: Report) -> list[tuple[Format, Precision]]:
        """The formats and precisions to write; `report` is told what is left out and why.

        Raises:
            UsageError: choices that exclude each other, or that nothing could come of.
        """
        check_size(self.size)
        if self.untrained and self.weights is not None:
            raise UsageError("--untrained means random weights: drop --weights")
        if self.straight:
            self._check_straight()
        self._check_mixed()
        formats = self.formats or (tuple(Format) if self.target is None else CORAL_PAIR[:1])
        pairs = combinations(
            formats, self._precisions(report), explicit=bool(self.formats), straight=self.straight
        )
        for file_format in formats:
            skipped = [str(p) for p in self.precisions if (file_format, p) not in pairs]
            if skipped:
                report(f"{file_format}: no {', '.join(skipped)}; other formats have it")
        for file_format, precision in pairs:
            self.boundary.dtype(file_format, precision)
        self._check_calibration(pairs)
        if self.target is Target.CORAL and CORAL_PAIR not in pairs:
            raise UsageError("--target coral needs the int8 TFLite file: add --int8 and --format tflite")
        return pairs

    def _check_mixed(self) -> None:
        limited = self.max_kib is not None or self.max_ms is not None
        if Precision.MIXED not in self.precisions:
            if self.min_dice != DEFAULT_MIN_DICE or limited:
                raise UsageError(
                    "--min-dice, --max-kib and --max-ms are for precision mixed: add --precision mixed"
                )
            return
        if not 0 <= self.min_dice <= 1:
            raise UsageError(f"--min-dice: expected 0 to 1, found {self.min_dice:g}")
        if self.boundary.head is Head.MASK:
            raise UnsupportedError("mixed is judged by probabilities: drop --head mask")
        if limited and self.formats and Format.TFLITE not in self.formats:
            raise UsageError("--max-kib and --max-ms are of the TFLite file: add --format tflite")

    def _check_straight(self) -> None:
        if self.target is not None:
            raise UnsupportedError(f"--target {self.target} is a rewrite: drop --no-rewrite")
        if self.boundary != Boundary():
            raise UnsupportedError(
                "--no-rewrite keeps the stock converters' input and output: "
                "drop --head, --input, --layout and --channel-order"
            )
        if (self.method, self.rounding, self.prepares) != (DEFAULT_METHOD, DEFAULT_ROUNDING, True):
            raise UnsupportedError(
                "--no-rewrite leaves quantization to the stock converters: "
                "drop --ranges, --rounding and --no-prepare"
            )

    def _precisions(self, report: Report) -> tuple[Precision, ...]:
        """Those asked for; else the default ones that can take the input that was asked for."""
        if self.precisions:
            return self.precisions
        if self.target is Target.CORAL:
            return CORAL_PAIR[1:]
        able = tuple(p for p in DEFAULT_PRECISIONS if self.boundary.can_take(p))
        if left_out := [str(p) for p in DEFAULT_PRECISIONS if p not in able]:
            report(f"no {', '.join(left_out)}: cannot take {self.boundary.input_dtype} input")
        return able

    def _check_calibration(self, pairs: list[tuple[Format, Precision]]) -> None:
        if self.verification is not None and self.calibration is None:
            raise UsageError("--verification needs --calibration: which images should it be held against?")
        if self.calibration is not None and all(p.is_float for _, p in pairs):
            raise UsageError("--calibration changes nothing at fp32 and fp16: add --int8 or drop it")
