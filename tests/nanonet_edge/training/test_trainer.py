"""The training loop, on a network that trains in a second."""

from __future__ import annotations

import errno
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanonet_edge import atomic
from nanonet_edge.errors import InputError, TrainingError
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.metrics import image_accuracy
from nanonet_edge.training import EpochRecord, Recipe, Stage
from nanonet_edge.training.augmentation import Augmenter
from nanonet_edge.training.data import batches
from nanonet_edge.training.state import RunState
from nanonet_edge.training.trainer import Trainer
from tests.nanonet_edge.training.material import PLAIN, RECIPE, pictures, small_network, with_batch_moments

TRAINING = pictures(10)
VALIDATION = {size: pictures(3, size, seed=1) for size in (32, 64)}


class KilledError(Exception):
    """What a test interrupts a run with."""


def trainer(folder: Path, recipe: Recipe = RECIPE, **options: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    validation = VALIDATION[recipe.stages[-1].size]
    return Trainer(small_network(), recipe, TRAINING, validation, folder / "state.npz", **options)


def killed_after(epoch: int, step: int) -> Any:
    def on_step(*report: Any) -> None:
        if report[:2] == (epoch, step):
            raise KilledError

    return on_step


def same(first: RunState, second: RunState) -> bool:
    """Everything to the last bit, the speeds aside."""

    def figures(state: RunState) -> list[EpochRecord]:
        return [replace(record, images_per_second=0.0) for record in state.history]

    arrays = ("weights", "average", "optimizer", "best")
    plain = ("epoch", "step", "best_epoch", "best_loss", "waited", "cooled", "rate_scale")
    return (
        figures(first) == figures(second)
        and all(getattr(first, name) == getattr(second, name) for name in plain)
        and all(
            len(getattr(first, name)) == len(getattr(second, name)) > 0
            and all(map(np.array_equal, getattr(first, name), getattr(second, name)))
            for name in arrays
        )
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    """What an uninterrupted run ends with."""
    return trainer(tmp_path_factory.mktemp("whole")).run()


def test_a_run_keeps_a_record_of_each_epoch(whole: RunState) -> None:
    assert [(r.epoch, r.size) for r in whole.history] == [(0, 32), (1, 32), (2, 64), (3, 64)]
    assert (whole.epoch, whole.step) == (4, 12)
    assert all(
        math.isfinite(r.loss) and r.val_loss is not None and r.val_dsc is not None for r in whole.history
    )
    assert whole.best_loss == min(r.val_loss for r in whole.history if r.val_loss is not None)
    assert whole.best_epoch == next(r.epoch for r in whole.history if r.val_loss == whole.best_loss)


@pytest.mark.parametrize(
    "moments",
    [
        [(0, 1), (1, 2)],  # before anything was kept, then in the middle of an epoch
        [(2, 1)],  # in the first epoch of the second stage
        [(3, 3)],  # after the last step
    ],
)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tmp_path: Path, whole: RunState, moments: list[tuple[int, int]]
) -> None:
    for moment in moments:
        with pytest.raises(KilledError):
            trainer(tmp_path, on_step=killed_after(*moment)).run()
    resumed = trainer(tmp_path)
    assert resumed.state.epoch == moments[-1][0]
    assert same(resumed.run(), whole)
    assert same(RunState.load(tmp_path / "state.npz"), whole)


def test_a_full_disk_leaves_the_epoch_before(
    tmp_path: Path, whole: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        del data
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def fill(record: EpochRecord) -> None:
        if record.epoch == 1:
            monkeypatch.setattr(atomic, "write_bytes", full)

    with pytest.raises(OSError, match="No space left on device"):
        trainer(tmp_path, on_epoch=fill).run()
    monkeypatch.undo()
    assert RunState.load(tmp_path / "state.npz").epoch == 2
    assert same(trainer(tmp_path).run(), whole)


def test_a_finished_run_does_nothing_more(tmp_path: Path, whole: RunState) -> None:
    whole.save(tmp_path / "state.npz")
    assert same(trainer(tmp_path, on_step=killed_after(4, 1)).run(), whole)


def test_another_seed_is_another_run(tmp_path: Path, whole: RunState) -> None:
    assert not same(trainer(tmp_path, seed=1).run(), whole)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"state\.npz: expected the state of a training run"):
        trainer(tmp_path)


def first_loss(folder: Path, recipe: Recipe, **options: Any) -> float:
    """The loss of the first batch, before anything was learnt."""
    seen: list[float] = []
    trainer(folder, recipe, on_step=lambda *report: seen.append(report[3]), **options).run()
    return seen[0]


def test_the_loss_is_that_of_the_batch_and_distillation_adds_the_teachers(tmp_path: Path) -> None:
    teacher = small_network(seed=9, trained=True)
    x, mask = next(batches(TRAINING, Augmenter("none", 32), PLAIN.batch, 0, 0))
    start = small_network().with_size(32)
    p = evaluate(with_batch_moments(start, x), x).astype(np.float64)
    dice = np.mean(
        [1 - (2 * (m * q).sum() + 1) / (m.sum() + q.sum() + 1) for m, q in zip(mask, p, strict=True)]
    )
    assert first_loss(tmp_path / "alone", PLAIN) == pytest.approx(dice, abs=2e-4)
    answer = evaluate(teacher.with_size(32), x)
    entropy = -np.mean(answer * np.log(p + 1e-6) + (1 - answer) * np.log(1 - p + 1e-6))
    distilled = first_loss(tmp_path / "taught", replace(PLAIN, distillation=0.7), teacher=teacher)
    assert distilled == pytest.approx(dice + 0.7 * entropy, abs=1e-3)


def test_validation_is_the_network_on_every_image(tmp_path: Path, whole: RunState) -> None:
    one = trainer(tmp_path)
    graph = one.finished(whole.best)
    found = one.validate_graph(graph)
    p = evaluate(graph, VALIDATION[64].frames.astype(np.float32) / 255)[..., 0].astype(np.float64)
    masks = VALIDATION[64].masks
    dsc = [image_accuracy(mask, (q > 0.5).astype(np.uint8)).dsc for mask, q in zip(masks, p, strict=True)]
    assert found.dsc == pytest.approx(np.mean(dsc), abs=1e-3)
    losses = [
        1 - (2 * (m * q).sum() + 1) / (m.sum() + q.sum() + 1)
        - 0.5 * np.mean(m * np.log(q + 1e-6) + (1 - m) * np.log(1 - q + 1e-6))
        for m, q in zip(masks, p, strict=True)
    ]  # fmt: skip
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_finished_statistics_are_those_of_unchanged_training_images(tmp_path: Path, whole: RunState) -> None:
    graph = trainer(tmp_path).finished(whole.best)
    plain = batches(TRAINING, Augmenter("none", 64), RECIPE.batch, 0, 0)
    means = []
    for _, (x, _) in zip(range(RECIPE.reestimate), plain, strict=False):
        means.append(with_batch_moments(graph, x)["encoder_bn"].weights["mean"])
    np.testing.assert_allclose(graph["encoder_bn"].weights["mean"], np.mean(means, axis=0), atol=1e-4)


def test_the_moving_average_follows_the_weights(tmp_path: Path) -> None:
    """With a decay of a half, after three steps: (w1 / 2 + w2 / 2) / 2 + w3 / 2."""
    recipe = replace(PLAIN, average=0.5)
    after: list[list[np.ndarray]] = []
    one = trainer(tmp_path, recipe, on_step=lambda *report: after.append(one._network.weights()))
    state = one.run()
    for index, found in enumerate(state.average):
        first, second, third = (weights[index] for weights in after)
        np.testing.assert_allclose(found, (first / 2 + second / 2) / 2 + third / 2, atol=1e-6)
    assert all(map(np.array_equal, state.weights, after[-1]))


def test_the_rate_warms_up_and_falls_along_a_cosine(tmp_path: Path) -> None:
    seen: list[float] = []
    one = trainer(tmp_path, on_step=lambda *report: seen.append(float(one._optimizer.learning_rate)))
    one.run()
    expected = []
    for step in range(12):
        stage, within = RECIPE.stages[step // 6], (step % 6) / 6
        rate = stage.final_rate + (stage.rate - stage.final_rate) * (1 + math.cos(math.pi * within)) / 2
        expected.append(rate * min((step + 1) / 5, 1.0))
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_the_rate_falls_on_a_plateau_and_patience_ends_the_run(tmp_path: Path) -> None:
    """At this rate nothing changes, so the first validation stays the best."""
    recipe = replace(PLAIN, stages=(Stage(32, 20, 1e-30, 1e-30),), plateau=2, patience=5, momentum=1.0)
    state = trainer(tmp_path, recipe).run()
    assert (state.best_epoch, state.epoch, state.waited) == (0, 6, 5)
    np.testing.assert_allclose(
        [r.rate for r in state.history], [1e-30] * 3 + [1e-31] * 2 + [1e-32], rtol=1e-4
    )


def test_validation_comes_as_often_as_asked_and_at_the_end(tmp_path: Path) -> None:
    recipe = replace(PLAIN, stages=(Stage(32, 5, 1e-3, 1e-3, validate_every=2),))
    state = trainer(tmp_path, recipe).run()
    assert [r.epoch for r in state.history if r.val_loss is not None] == [1, 3, 4]


def test_weight_decay_is_for_kernels_alone(tmp_path: Path) -> None:
    """At a rate of one tenth and a decay of one, a kernel loses a tenth a step beside what it learns."""
    recipe = replace(PLAIN, batch=10, stages=(Stage(32, 1, 1e-1, 1e-1),), weight_decay=1.0)
    one = trainer(tmp_path / "with", recipe)
    two = trainer(tmp_path / "without", replace(recipe, weight_decay=0.0))
    one.run()
    two.run()
    start = small_network()
    for found, plain in zip(one._network.graph(), two._network.graph(), strict=True):
        for key in found.weights:
            lost = plain.weights[key] - found.weights[key]
            expected = 0.1 * start[found.name].weights[key] if key == "kernel" else 0.0
            np.testing.assert_allclose(lost, np.broadcast_to(expected, lost.shape), atol=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_good(tmp_path: Path) -> None:
    spoilt = small_network()
    nodes = [
        node.but(weights={**node.weights, "bias": np.full(1, np.nan, np.float32)})
        if node.name == "head"
        else node
        for node in spoilt
    ]
    spoilt = Graph(tuple(nodes), spoilt.output)
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: the loss is nan.*lower the learning rate"):
        Trainer(spoilt, PLAIN, TRAINING, VALIDATION[32], tmp_path / "state.npz").run()
    assert not (tmp_path / "state.npz").exists()
