"""What a training run does, as data: two presets, and what may be changed of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from nanonet_edge.errors import UsageError
from nanonet_edge.variants import check_size

Optimizer = Literal["nadam", "adamw"]
Augmentation = Literal["paper", "moderate", "strong", "none"]

_FAST_STAGES = 3


@dataclass(frozen=True)
class Stage:
    """Some epochs at one image size.

    Attributes:
        size: height and width in pixels, a multiple of 32.
        epochs: passes over the training images, at most.
        rate: learning rate at the stage's start (its peak).
        final_rate: where a cosine takes it; equal to `rate` for a constant one.
        validate_every: epochs from one validation to the next; the last epoch always has one.
    """

    size: int
    epochs: int
    rate: float
    final_rate: float
    validate_every: int = 1


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run, the data and the start aside.

    Attributes:
        stages: in order.
        batch: images per step.
        dice, cross_entropy: weights of the two terms of the loss against the masks.
        distillation: weight of the cross-entropy against a teacher's probabilities.
        momentum: of every batch norm during training; None keeps the network's own.
        reestimate: batches over which the batch-norm statistics are averaged anew at the end.
        average: decay per step of the moving average of the weights that is validated and
            saved; 0 for none.
        plateau: epochs without a better validation loss after which the rate falls tenfold;
            0 for never.
        patience: the same, until training stops; 0 for never.
        adapt_input: rewrite the encoder's first layer, whose ImageNet weights expect RGB in
            [-1, 1], for BGR in [0, 1].
        warm_up: steps over which the first rate is reached linearly.
    """

    name: str
    stages: tuple[Stage, ...]
    optimizer: Optimizer
    augmentation: Augmentation
    batch: int = 16
    dice: float = 1.0
    cross_entropy: float = 0.0
    distillation: float = 0.0
    weight_decay: float = 0.0
    momentum: float | None = None
    reestimate: int = 0
    average: float = 0.0
    plateau: int = 0
    patience: int = 0
    adapt_input: bool = False
    warm_up: int = 0

    def __post_init__(self) -> None:
        for stage in self.stages:
            check_size(stage.size)
            if stage.epochs < 1 or stage.validate_every < 1 or stage.rate <= 0:
                raise UsageError(f"expected at least one epoch and a positive learning rate, found {stage}")
        if not self.stages or self.batch < 2:
            raise UsageError("expected at least one stage, and batches of two or more (for the batch norms)")

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def stage_of(self, epoch: int) -> tuple[Stage, int]:
        """The stage of an epoch (from 0), and the epoch's number within it."""
        for stage in self.stages:
            if epoch < stage.epochs:
                return stage, epoch
            epoch -= stage.epochs
        raise IndexError(f"epoch beyond the last of {self.epochs}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def paper(size: int = 256, epochs: int = 200) -> Recipe:
    """Section IV of the NanoNet paper (Jha et al., CBMS 2021).

    Batch 16, Nadam at 1e-4, dice loss, at most 200 epochs, the rate divided by ten after ten
    epochs without a better validation loss, early stopping (after 50: the released code's).
    """
    return Recipe(
        "paper",
        (Stage(size, epochs, 1e-4, 1e-4),),
        optimizer="nadam",
        augmentation="paper",
        plateau=10,
        patience=50,
    )


def fast(size: int = 256, epochs: int = 60) -> Recipe:
    """The same accuracy in a fraction of the time on two cores.

    Half of the epochs at half the size, a quarter of the pixels; a sixth at three quarters, a
    third at full size: with a fifteenth at full size NanoNet-A was no better than NanoNet-C.
    Cosine schedule, dice and cross-entropy, batch norms that follow within ten steps and whose
    statistics are estimated anew at the end, a moving average of the weights, and an encoder
    whose first layer is adapted to the input.

    Raises:
        UsageError: fewer epochs than stages.
    """
    if epochs < _FAST_STAGES:
        raise UsageError(f"preset 'fast' has {_FAST_STAGES} stages: expected as many epochs, found {epochs}")
    half = max(size // 64 * 32, 32)
    middle = max(size * 3 // 4 // 32 * 32, 32)
    full, between = max(epochs // 3, 1), max(epochs // 6, 1)
    stages = (
        Stage(half, max(epochs - full - between, 1), 2e-3, 2e-4, 5),
        Stage(middle, between, 1e-3, 1e-4, 5),
        Stage(size, full, 6e-4, 1e-5, 1),
    )
    return _thrifty("fast", stages)


def tune(size: int = 256, epochs: int = 10) -> Recipe:
    """Go on from trained weights: at full size alone.

    The rate is high enough to leave where the weights are, and costs the first epochs a part of
    their DSC: worth it for twenty epochs or more, seldom for less.
    """
    return replace(_thrifty("tune", (Stage(size, epochs, 5e-4, 5e-6, 2),)))


def _thrifty(name: str, stages: tuple[Stage, ...]) -> Recipe:
    return Recipe(
        name,
        stages,
        optimizer="adamw",
        augmentation="moderate",
        cross_entropy=0.5,
        weight_decay=1e-3,
        momentum=0.9,
        reestimate=50,
        average=0.995,
        adapt_input=True,
        warm_up=100,
    )


PRESETS = {"paper": paper, "fast": fast, "tune": tune}
