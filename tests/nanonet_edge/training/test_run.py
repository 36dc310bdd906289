"""A run's folder: what it holds at the end, what it refuses, how it goes on."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.errors import CheckpointError, InputError, UsageError
from nanonet_edge.image_header import read_header
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.training import EpochRecord, Job, Recipe, Start, train
from nanonet_edge.training.network import TrainableNetwork
from nanonet_edge.training.run import read_run
from nanonet_edge.training.state import RunState
from nanonet_edge.variants import NETWORKS, Topology, get_network, get_variant
from tests.nanonet_edge.training.material import PLAIN, pictures
from tests.tiny_run import JOB, RECIPE, SIZE, TinyRun


def unfinished(run: TinyRun, folder: Path) -> Path:
    """What a run of the same settings looks like that was killed before its first epoch was kept."""
    folder.mkdir()
    document = json.loads((run.folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**document, "result": None}))
    return folder


def resume(run: TinyRun, folder: Path, job: Job = JOB, **options: Any) -> Any:
    return train(job, run.training, run.validation, folder, **{"resume": True, **options})


def test_a_finished_run_holds_weights_settings_log_and_curves(tiny_run: TinyRun) -> None:
    assert sorted(path.name for path in tiny_run.folder.iterdir()) == [
        "best.weights.h5",
        "curves.png",
        "history.csv",
        "last.weights.h5",
        "run.json",
    ]
    header = read_header((tiny_run.folder / "curves.png").read_bytes())
    assert header is not None
    assert header.kind == "PNG"
    for name in ("best", "last"):
        found = load_checkpoint(tiny_run.folder / f"{name}.weights.h5")
        assert (found.variant.name, found.topology, found.classes) == ("c", Topology.RELEASED, 1)


def test_the_settings_and_the_result_are_on_disk(tiny_run: TinyRun) -> None:
    found = read_run(tiny_run.folder)
    settings, result = found["settings"], found["result"]
    assert (settings["variant"], settings["topology"], settings["seed"]) == ("c", "released", 3)
    assert settings["recipe"] == json.loads(json.dumps(RECIPE.as_dict()))
    assert settings["training"] == {"images": 8, "digest": tiny_run.training.digest, "skipped": []}
    assert settings["start"] == {"encoder": None, "weights": None, "teacher": None}
    assert result == {
        "epochs": 10,
        "best": asdict(tiny_run.result.best),
        "last": asdict(tiny_run.result.last),
    }
    assert str(tiny_run.data) not in json.dumps(found)


def test_the_log_is_what_was_reported(tiny_run: TinyRun) -> None:
    with (tiny_run.folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        {key: "" if value is None else str(value) for key, value in asdict(record).items()}
        for record in tiny_run.records
    ]
    assert rows == expected
    assert [record.epoch for record in tiny_run.records if record.val_loss is not None] == [4, 9]


def test_something_is_learnt(tiny_run: TinyRun) -> None:
    first, last = tiny_run.records[0].loss, tiny_run.records[-1].loss
    assert last < 0.75 * first


def test_best_and_last_are_told_apart(tiny_run: TinyRun) -> None:
    validated = [record for record in tiny_run.records if record.val_loss is not None]
    best = min(validated, key=lambda record: float(record.val_loss or 0))
    assert tiny_run.result.best.epoch == best.epoch
    assert tiny_run.result.last.epoch == 9


def test_a_run_is_not_replaced_and_not_resumed_once_finished(tiny_run: TinyRun) -> None:
    with pytest.raises(UsageError, match=r"holds a training run: --resume goes on with it, --overwrite"):
        resume(tiny_run, tiny_run.folder, resume=False)
    with pytest.raises(UsageError, match="finished: nothing to resume"):
        resume(tiny_run, tiny_run.folder)
    with pytest.raises(UsageError, match="exclude each other"):
        resume(tiny_run, tiny_run.folder, overwrite=True)
    assert (tiny_run.folder / "best.weights.h5").exists()


def test_nothing_to_resume_is_said(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: expected a training run to resume, found no run\.json"):
        resume(tiny_run, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("job", "names"),
    [
        (replace(JOB, seed=4), "seed"),
        (replace(JOB, recipe=replace(RECIPE, batch=2)), r"recipe\.batch"),
        (replace(JOB, variant=get_variant("b"), seed=0), "variant, seed"),
        (replace(JOB, topology=Topology.DESCRIBED), "topology"),
    ],
)
def test_other_settings_are_refused_by_name(tiny_run: TinyRun, tmp_path: Path, job: Job, names: str) -> None:
    folder = unfinished(tiny_run, tmp_path / "run")
    with pytest.raises(UsageError, match=rf"run: cannot be resumed: {names} differ from when"):
        resume(tiny_run, folder, job)


def test_other_data_are_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder = unfinished(tiny_run, tmp_path / "run")
    with pytest.raises(UsageError, match=r"cannot be resumed: training\.images, training\.digest differ"):
        train(JOB, pictures(9, SIZE), tiny_run.validation, folder, resume=True)


def test_a_damaged_state_is_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder = unfinished(tiny_run, tmp_path / "run")
    (folder / "state.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(
        InputError, match=r"state\.npz: expected the state of a training run, found a damaged"
    ):
        resume(tiny_run, folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1}', "null"])
def test_a_damaged_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: expected the settings of a training run"):
        read_run(tmp_path)


def test_a_run_killed_after_its_last_epoch_is_finished_without_training(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    """Its state is kept; the log lacks the last line, and there are no weights yet."""
    folder = unfinished(tiny_run, tmp_path / "run")
    graph = load_checkpoint(tiny_run.folder / "last.weights.h5").graph
    arrays = TrainableNetwork(graph, SIZE).weights()
    state = RunState(10, 20, arrays, best=arrays, best_epoch=4, best_loss=0.5, history=tiny_run.records)
    state.save(folder / "state.npz")

    def no_step(*report: Any) -> None:
        raise AssertionError(report)

    found = resume(tiny_run, folder, on_step=no_step)
    assert (found.epochs, found.best.epoch, found.last.epoch) == (10, 4, 9)
    assert (folder / "history.csv").read_text() == (tiny_run.folder / "history.csv").read_text()
    # The statistics are estimated anew from the same images, so these are the very same weights.
    assert found.last.dsc == pytest.approx(tiny_run.result.last.dsc, abs=1e-6)
    assert not (folder / "state.npz").exists()
    with pytest.raises(UsageError, match="finished"):
        resume(tiny_run, folder)


@pytest.mark.parametrize(
    ("recipe", "start"),
    [
        (replace(PLAIN, distillation=0.5), lambda path: Start()),
        (PLAIN, lambda path: Start(teacher=path)),
    ],
)
def test_distillation_takes_a_teacher_and_a_weight(
    tiny_run: TinyRun, tmp_path: Path, recipe: Recipe, start: Callable[[Path], Start]
) -> None:
    job = Job(get_variant("c"), recipe, start=start(tiny_run.folder / "best.weights.h5"))
    with pytest.raises(UsageError, match="distillation takes both"):
        train(job, pictures(4, 32), pictures(2, 32), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_images_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected validation images of 32 pixels, found 64"):
        train(Job(get_variant("c"), PLAIN), pictures(4, 32), pictures(2, 64), tmp_path / "run")


def test_other_networks_have_no_encoder_to_fill(tmp_path: Path) -> None:
    job = Job(get_network("unet"), PLAIN, start=Start(encoder=tmp_path / "mobilenet.h5"))
    with pytest.raises(UsageError, match="U-Net has no MobileNetV2 encoder"):
        train(job, pictures(4, 32), pictures(2, 32), tmp_path / "run")


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.weights.h5"
    save_checkpoint(build_network(get_variant("c"), classes=2, fill=random_fill(0)), path)
    taught = replace(PLAIN, distillation=0.5)
    for job, words in (
        (Job(get_variant("c"), PLAIN, start=Start(weights=path)), "expected one class, found 2"),
        (Job(get_variant("c"), taught, start=Start(teacher=path)), "expected one class, found 2"),
        (Job(get_variant("b"), PLAIN, start=Start(weights=path)), "expected NanoNet-B, found NanoNet-C"),
        (
            Job(get_variant("c"), PLAIN, Topology.DESCRIBED, Start(weights=path)),
            "expected topology 'described', found 'released'",
        ),
    ):
        with pytest.raises(CheckpointError, match=rf"two\.weights\.h5: {words}"):
            train(job, pictures(4, 32), pictures(2, 32), tmp_path / "run", overwrite=True)


def test_an_earlier_run_is_replaced_on_request(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at once: nothing of the old run may be taken for the new one's."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)

    class Stopped(Exception):  # noqa: N818 - it stands for a kill
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise Stopped

    monkeypatch.setattr("nanonet_edge.training.run.Trainer", stop)
    with pytest.raises(Stopped):
        resume(tiny_run, folder, replace(JOB, seed=9), resume=False, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert read_run(folder)["settings"]["seed"] == 9
    assert read_run(folder)["result"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in "ac"])
def test_every_network_trains(tmp_path: Path, name: str) -> None:
    recipe = replace(PLAIN, stages=(replace(PLAIN.stages[0], epochs=2),), reestimate=1)
    seen: list[EpochRecord] = []
    job = Job(get_network(name), recipe)
    result = train(job, pictures(4, 32), pictures(2, 32), tmp_path, on_epoch=seen.append)
    assert (len(seen), result.epochs) == (2, 2)
    found = load_checkpoint(tmp_path / "last.weights.h5", variant=name)
    assert found.variant is get_network(name)
