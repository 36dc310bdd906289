"""Losses on probabilities, in operations that every Keras backend has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanonet_edge.extras import require
from nanonet_edge.training.recipe import Recipe

#: Keeps an empty mask that is predicted empty from dividing zero by zero.
_SMOOTH = 1.0
_TINY = 1e-6


def build_loss(recipe: Recipe) -> Callable[[Any, Any], Any]:
    """The recipe's loss as a function of (target, probability), for `keras.Model.compile`.

    The target is (n, H, W, 1): the mask; with distillation (n, H, W, 2): the mask, then the
    teacher's probability. The probability is (n, H, W, 1).

    Dice loss is 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), per image, then the mean
    (Milletari et al., 2016, with sums instead of sums of squares, as the released code has it).
    """
    ops = require("keras").ops

    def cross_entropy(target: Any, p: Any) -> Any:
        return -ops.mean(target * ops.log(p + _TINY) + (1.0 - target) * ops.log(1.0 - p + _TINY))

    def loss(target: Any, p: Any) -> Any:
        # Validation hands over NumPy arrays, which PyTorch does not multiply with its tensors.
        target, p = ops.convert_to_tensor(target), ops.convert_to_tensor(p)
        mask = target[..., :1]
        total = 0.0
        if recipe.dice:
            axes = (1, 2, 3)
            overlap = ops.sum(mask * p, axes)
            sizes = ops.sum(mask, axes) + ops.sum(p, axes)
            total += recipe.dice * ops.mean(1.0 - (2.0 * overlap + _SMOOTH) / (sizes + _SMOOTH))
        if recipe.cross_entropy:
            total += recipe.cross_entropy * cross_entropy(mask, p)
        if recipe.distillation:
            total += recipe.distillation * cross_entropy(target[..., 1:2], p)
        return total

    return loss
