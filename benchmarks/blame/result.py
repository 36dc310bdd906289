"""`blame.json`: what each layer's rounding costs."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from nanonet_edge.benchmarks.agreement_data import DataRecord
from nanonet_edge.machine import Machine
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.metrics import Estimate
from nanonet_edge.results import RESULTS_SCHEMA_VERSION, Obtained, RuntimeInfo
from nanonet_edge.variants import Format

BLAME_NAME: Final = "blame.json"


class LayerBlame(Record):
    """One layer: a tensor and the weights that made it.

    Attributes:
        layer: its name in the file.
        op: what computes it.
        parameters: integer weights and biases.
        sqnr_db: signal over quantization noise of the tensor in the artifact, in decibels: against
            the float network, so noise from earlier layers is in it.
        rounding_db: the same for this rounding alone, on the float network's values.
        weights_db: the same for the kernel's numbers.
        gain: of mean Dice, if this layer alone were kept in float.
        loss: of mean Dice, if this layer alone were quantized.
        missing: why a figure is None, by field.
    """

    layer: str
    op: str
    parameters: int
    sqnr_db: float | None
    rounding_db: float | None
    weights_db: float | None
    gain: Estimate
    loss: Estimate
    missing: dict[str, str] = Field(default_factory=dict)


class EngineCheck(Record):
    """The simulation against the engine on the same frames.

    `lsb` is the unit of the output in real values; `max_lsb` the largest difference in such units,
    `share_beyond_lsb` the share of pixels that differ by more than one. `mean_dice` compares the two
    masks.
    """

    obtained: Obtained = "measured"
    spec: str
    runtime: RuntimeInfo
    lsb: float
    max_lsb: float
    share_beyond_lsb: float
    mean_dice: float


class ThresholdFit(Record):
    """What a better cut-off would repair, by two-fold cross-fitting: fitted on one half, judged on the other.

    `threshold` is the best on all frames and `default` the one in force, in the output's real values.
    `offset` is the part of the lost Dice that the fitted cut-off gives back, `structural` what is left.
    `source` is whose outputs were cut.
    """

    source: Literal["engine", "simulation"]
    default: float
    threshold: float
    dice_default: float
    dice_fitted: float
    offset: float
    structural: float


class BlameResult(Record):
    """Layers by blame, the worst first.

    The reference is the float network of the same graph: with the checkpoint's weights where
    `float_weights`, else with those of the file, so that only activations are judged. Dice figures
    are means over the frames against its masks; None has its reason in `missing`.
    """

    schema_version: Literal[1] = RESULTS_SCHEMA_VERSION
    kind: Literal["blame"] = "blame"
    created: str
    obtained: Obtained = "predicted"
    artifact: str
    format: Format
    file_sha256: Sha256
    manifest_sha256: Sha256 | None
    machine: Machine
    data: DataRecord
    float_weights: bool
    dice: Estimate
    dice_weights_only: float | None
    dice_activations_only: float | None
    dice_engine: float | None
    engine: EngineCheck | None
    threshold: ThresholdFit | None
    layers: tuple[LayerBlame, ...]
    missing: dict[str, str] = Field(default_factory=dict)
