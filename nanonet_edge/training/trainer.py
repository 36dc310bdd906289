"""The training loop: stages, schedule, moving average, validation, and going on after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import TrainingError
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph
from nanonet_edge.keras_network import build_keras
from nanonet_edge.metrics import image_accuracy
from nanonet_edge.passes import rewrite
from nanonet_edge.training.augmentation import Augmenter
from nanonet_edge.training.data import TrainingSet, as_tensor, batches
from nanonet_edge.training.losses import build_loss
from nanonet_edge.training.network import Arrays, TrainableNetwork
from nanonet_edge.training.recipe import Recipe, Stage
from nanonet_edge.training.state import EpochRecord, RunState

THRESHOLD = 0.5
_COOLING = 0.1
#: Of unchanged training images, for the batch-norm statistics of a validation.
_VALIDATION_BATCHES = 10

Report = Callable[[EpochRecord], None]
Tick = Callable[[int, int, int, float], None]


@dataclass(frozen=True)
class Validation:
    """Loss and mean DSC over the validation images, the network at its last stage's size."""

    loss: float
    dsc: float


class Trainer:
    """Trains one network; every epoch ends with its state on disk.

    Args:
        graph: the unrewritten network with the weights to start from.
        recipe: what to do.
        training: images, best at the size of the recipe's last stage.
        validation: images at the size of the recipe's last stage.
        state_file: where the run's state is kept; a run goes on from what it finds there.
        seed: decides order and augmentation.
        teacher: an unrewritten, trained network to distill from, if the recipe asks for it.
        on_epoch, on_step: told after each epoch (its record) and each step (epoch, step, steps
            of the epoch, mean loss so far).

    Raises:
        MissingExtraError: Keras or albumentations is not installed.
        InputError: the state file is damaged.
    """

    def __init__(
        self,
        graph: Graph,
        recipe: Recipe,
        training: TrainingSet,
        validation: TrainingSet,
        state_file: Path,
        *,
        seed: int = 0,
        teacher: Graph | None = None,
        on_epoch: Report = lambda record: None,
        on_step: Tick = lambda epoch, step, steps, loss: None,
    ) -> None:
        self.graph, self.recipe, self.seed = graph, recipe, seed
        self.training, self.validation = training, validation
        self._file = state_file
        self._teacher_graph = teacher
        self._on_epoch, self._on_step = on_epoch, on_step
        self.state = RunState.load(state_file) if state_file.exists() else RunState()
        self._stage: Stage | None = None
        self._network: TrainableNetwork
        self._optimizer: Any
        self._augmenter: Augmenter
        self._teacher: Any = None

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.training) // self.recipe.batch)

    def run(self) -> RunState:
        """Train to the end, or until the validation loss no longer falls; return the final state.

        Raises:
            TrainingError: a loss is not finite. The last whole epoch's state stays on disk.
        """
        while self.state.epoch < self.recipe.epochs and not self._is_exhausted():
            self._epoch()
        return self.state

    def finished(self, arrays: Arrays) -> Graph:
        """The unrewritten network with these weights, its batch-norm statistics estimated anew."""
        network = self._build(self.recipe.stages[-1])
        network.set_weights(arrays)
        if self.recipe.reestimate:
            network.reestimate(self._plain_batches(self.recipe.reestimate))
        return network.graph()

    def validate(self, arrays: Arrays) -> Validation:
        """Loss and DSC on the validation images, at the size of the last stage.

        Where the recipe estimates the batch-norm statistics anew at the end, it is done here too,
        over fewer batches: those of augmented images would judge epochs by how strongly they
        were augmented, and choose the wrong one.
        """
        network = self._build(self.recipe.stages[-1])
        network.set_weights(arrays)
        if self.recipe.reestimate:
            network.reestimate(self._plain_batches(min(self.recipe.reestimate, _VALIDATION_BATCHES)))
        return validate(network.model, self.validation, build_loss(_without_teacher(self.recipe)))

    def validate_graph(self, graph: Graph) -> Validation:
        """The same for a finished network, as a checkpoint holds it."""
        model = build_keras(graph.with_size(self.recipe.stages[-1].size))
        return validate(model, self.validation, build_loss(_without_teacher(self.recipe)))

    def _is_exhausted(self) -> bool:
        return 0 < self.recipe.patience <= self.state.waited

    def _build(self, stage: Stage) -> TrainableNetwork:
        if self._stage is not None and self._stage.size == stage.size:
            # Weights on loan: whoever borrows the network has its state elsewhere.
            return self._network
        return TrainableNetwork(self.graph, stage.size, self.recipe.momentum)

    def _enter(self, stage: Stage) -> None:
        """Make the model, the optimizer and the augmentation of a stage, and fill in the state."""
        keras = require("keras")
        keras.utils.set_random_seed(self.seed)
        if self._stage is not None:
            self._keep()
        self._network = self._build(stage)
        rate = stage.rate
        if self.recipe.optimizer == "nadam":
            self._optimizer = keras.optimizers.Nadam(rate)
        else:
            self._optimizer = keras.optimizers.AdamW(rate, weight_decay=self.recipe.weight_decay)
            # Decay is for kernels: it would pull a batch norm's gain towards nothing.
            self._optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self._network.model.compile(self._optimizer, build_loss(self.recipe), jit_compile=False)
        self._optimizer.build(self._network.model.trainable_variables)
        if self.state.weights:
            self._network.set_weights(self.state.weights)
        if self.state.optimizer:
            for variable, array in zip(self._optimizer.variables, self.state.optimizer, strict=True):
                variable.assign(array)
        self._augmenter = Augmenter(self.recipe.augmentation, stage.size)
        if self.recipe.distillation and self._teacher_graph is not None:
            self._teacher = build_keras(rewrite(self._teacher_graph.with_size(stage.size)).graph)
        self._stage = stage

    def _keep(self) -> None:
        """Copy what the model and the optimizer hold into the state."""
        to_numpy = require("keras").ops.convert_to_numpy
        self.state.weights = self._network.weights()
        self.state.optimizer = [np.array(to_numpy(variable)) for variable in self._optimizer.variables]

    def _epoch(self) -> None:
        epoch = self.state.epoch
        stage, within = self.recipe.stage_of(epoch)
        if self._stage is not stage:
            self._enter(stage)
            if within == 0:
                self.state.average = []  # batch norms of another size
        began, losses, rate = time.perf_counter(), [], 0.0
        for step, (x, y) in enumerate(
            batches(self.training, self._augmenter, self.recipe.batch, self.seed, epoch)
        ):
            rate = self._rate(stage, within + step / self.steps)
            self._optimizer.learning_rate.assign(rate)
            losses.append(float(self._network.model.train_on_batch(x, self._target(x, y))))
            _check_finite(losses[-1], f"epoch {epoch + 1}, step {step + 1}: the loss")
            self.state.step += 1
            self._average()
            self._on_step(epoch, step + 1, self.steps, float(np.mean(losses)))
        seconds = time.perf_counter() - began
        self._keep()
        validation = self._validate_if_due(stage, within)
        record = EpochRecord(
            epoch,
            stage.size,
            rate,
            float(np.mean(losses)),
            validation.loss if validation else None,
            validation.dsc if validation else None,
            len(self.training) / seconds,
        )
        self.state.history.append(record)
        self.state.epoch += 1
        self.state.save(self._file)
        self._on_epoch(record)

    def _rate(self, stage: Stage, progress: float) -> float:
        """Cosine from the stage's rate to its final one; `progress` in epochs of the stage."""
        along = 0.5 * (1 + math.cos(math.pi * min(progress / stage.epochs, 1.0)))
        rate = stage.final_rate + (stage.rate - stage.final_rate) * along
        warm = min((self.state.step + 1) / self.recipe.warm_up, 1.0) if self.recipe.warm_up else 1.0
        return rate * warm * self.state.rate_scale

    def _target(self, x: npt.NDArray[np.float32], mask: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._teacher is None:
            return mask
        return np.concatenate([mask, np.asarray(self._teacher.predict_on_batch(x))], axis=-1)

    def _average(self) -> None:
        decay = self.recipe.average
        if not decay:
            return
        now = self._network.weights()
        if not self.state.average:
            self.state.average = now
            return
        self.state.average = [
            decay * kept + (1 - decay) * new for kept, new in zip(self.state.average, now, strict=True)
        ]

    def _validate_if_due(self, stage: Stage, within: int) -> Validation | None:
        last = self.state.epoch + 1 == self.recipe.epochs
        if not last and (within + 1) % stage.validate_every:
            return None
        candidate = self.state.average or self.state.weights
        found = self.validate([array.copy() for array in candidate])
        _check_finite(found.loss, f"epoch {self.state.epoch + 1}: the validation loss")
        self._network.set_weights(self.state.weights)
        if found.loss < self.state.best_loss:
            self.state.best = [array.copy() for array in candidate]
            self.state.best_loss, self.state.best_epoch = found.loss, self.state.epoch
            self.state.waited = self.state.cooled = 0
        else:
            self.state.waited += stage.validate_every
            self.state.cooled += stage.validate_every
            if self.recipe.plateau and self.state.cooled >= self.recipe.plateau:
                self.state.rate_scale *= _COOLING
                self.state.cooled = 0
        return found

    def _plain_batches(self, count: int) -> Any:
        """Unchanged training images at the last stage's size: what inference will see."""
        size = self.recipe.stages[-1].size
        augmenter = Augmenter("none", size)
        for index, (x, _) in enumerate(batches(self.training, augmenter, self.recipe.batch, self.seed, 0)):
            if index == count:
                return
            yield x


def validate(model: Any, data: TrainingSet, loss: Callable[[Any, Any], Any], batch: int = 8) -> Validation:
    """Mean loss and DSC of a Keras model over a set of its size, batch norms as in inference."""
    losses, scores = [], []
    for start in range(0, len(data), batch):
        stop = start + batch
        masks = data.masks[start:stop]
        p = np.asarray(model.predict_on_batch(as_tensor(data.frames[start:stop])))
        target = masks[..., np.newaxis].astype(np.float32)
        losses += [float(loss(target[i : i + 1], p[i : i + 1])) for i in range(len(p))]
        scores += [
            image_accuracy(mask, (one[..., 0] > THRESHOLD).astype(np.uint8)).dsc
            for mask, one in zip(masks, p, strict=True)
        ]
    return Validation(float(np.mean(losses)), float(np.mean(scores)))


def _check_finite(loss: float, what: str) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"{what} is {loss}, expected a finite number: lower the learning rate")


def _without_teacher(recipe: Recipe) -> Recipe:
    return replace(recipe, distillation=0.0)
