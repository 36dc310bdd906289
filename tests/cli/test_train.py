"""`nanonet-edge train` as a user types it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.cli.main import app
from nanonet_edge.training.run import read_run
from tests.nanonet_edge.checkpoints import same_weights
from tests.nanonet_edge.training.material import write_images
from tests.tiny_run import TinyRun

#: Too few epochs and pixels to learn anything.
SMALL = ("--size", "32", "--epochs", "2", "--batch", "4", "--random-encoder")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def refused(result: Result, code: int, *words: object) -> None:
    """One line on stderr, after what may have been said before, and nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert "error: " in last.lower()
    assert "Traceback" not in result.stderr
    for word in words:
        assert str(word) in last


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images with masks; not to be changed."""
    return write_images(tmp_path_factory.mktemp("data"), 10, 32)


@pytest.fixture
def own(tmp_path: Path, data: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(data, tmp_path / "own"))


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_run: TinyRun
) -> tuple[Path, Path, Result]:
    """A run with everything on it: a corrupt image, a teacher, a log; its folder, its log, what it said."""
    root = tmp_path_factory.mktemp("finished")
    spoilt = Path(shutil.copytree(data, root / "data"))
    (spoilt / "images" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    result = run(
        "--data", spoilt, *SMALL, "--skip-bad", "--teacher", tiny_run.folder / "best.weights.h5",
        "--distillation", "0.25", "--output", root / "run", "--tensorboard", root / "log", "--json",
    )  # fmt: skip
    return root / "run", root / "log", result


def test_stdout_is_json_and_stderr_tells_what_goes_on(finished: tuple[Path, Path, Result]) -> None:
    folder, _, result = finished
    assert result.exit_code == 0, result.stderr
    printed, stored = json.loads(result.stdout), read_run(folder)["result"]
    assert printed == {"folder": str(folder), **stored}
    assert "skipped: " in result.stderr
    assert "4.png: expected" in result.stderr
    assert "8 images to train on, 1 to validate on (a tenth held out" in result.stderr
    for epoch in ("epoch   1  32 px", "epoch   2  32 px"):
        assert epoch in result.stderr
    assert "Traceback" not in result.stderr


def test_options_become_the_settings(finished: tuple[Path, Path, Result], tiny_run: TinyRun) -> None:
    settings = read_run(finished[0])["settings"]
    recipe, teacher = settings["recipe"], tiny_run.folder / "best.weights.h5"
    assert (recipe["name"], recipe["batch"], recipe["distillation"]) == ("paper", 4, 0.25)
    assert recipe["stages"][0]["size"] == 32
    assert settings["start"]["teacher"] == {"file": teacher.name, "sha256": load_checkpoint(teacher).sha256}
    assert settings["training"]["images"] == 8


def test_the_log_for_tensorboard_is_written(finished: tuple[Path, Path, Result]) -> None:
    (log,) = finished[1].iterdir()
    assert log.name.startswith("events.out.tfevents.")


def test_a_folder_that_holds_a_run_is_not_written_into(
    finished: tuple[Path, Path, Result], data: Path, tiny_run: TinyRun
) -> None:
    folder = finished[0]
    refused(run("--data", data, *SMALL, "--output", folder), 2, folder, "--resume", "--overwrite")
    refused(run("--data", data, *SMALL, "--output", folder, "--resume"), 2, folder, "finished")
    both = ("--resume", "--overwrite")
    refused(run("--data", data, *SMALL, "--output", tiny_run.folder, *both), 2, "exclude each other")


def test_a_run_that_is_resumed_with_other_settings_is_refused(
    finished: tuple[Path, Path, Result], own: Path, tmp_path: Path
) -> None:
    document = json.loads((finished[0] / "run.json").read_text())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({**document, "result": None}))
    result = run("--data", own, *SMALL, "--seed", "9", "--output", tmp_path / "run", "--resume")
    refused(result, 2, tmp_path / "run", "recipe.distillation", "start.teacher", "training.images", "seed")


def test_a_damaged_state_is_one_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    options = ("--data", data, *SMALL, "--output", tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("nanonet_edge.training.run.Trainer", stop)
        assert run(*options).exit_code == 130
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04")
    refused(run(*options, "--resume"), 3, tmp_path / "state.npz", "damaged")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--variant", "d"), 2, ("variant 'd' is unknown", "unet")),
        (("--size", "100"), 2, ("100", "multiple of 32")),
        (("--fold", "6/5"), 2, ("6/5", "K/N")),
        (("--fold", "1/5", "--validation", "."), 2, ("--fold", "--validation")),
        (("--weights", "w.h5", "--encoder-weights", "e.h5"), 2, ("--weights", "--encoder-weights")),
        (("--weights", "w.h5", "--random-encoder"), 2, ("--weights", "--random-encoder")),
        (("--random-encoder", "--encoder-weights", "e.h5"), 2, ("exclude each other",)),
        (("--random-encoder", "--preset", "tune"), 2, ("--preset tune", "--weights FILE")),
        (("--distillation", "0.5"), 2, ("--teacher",)),
        (("--preset", "fast", "--epochs", "2"), 2, ("'fast'", "3 stages")),
        (("--variant", "unet", "--topology", "described"), 2, ("U-Net", "--topology")),
        (("--variant", "unet", "--encoder-weights", "e.h5"), 2, ("U-Net", "encoder")),
        (("--resume", "--random-encoder"), 2, ("expected a training run to resume",)),
        (("--encoder-weights", "missing.h5"), 3, ("missing.h5",)),
        (("--weights", "missing.h5"), 3, ("missing.h5",)),
        (("--random-encoder", "--teacher", "missing.h5"), 3, ("missing.h5",)),
        (("--random-encoder", "--teacher", "wrong.h5"), 3, ("wrong.h5",)),
        (("--encoder-weights", "wrong.h5"), 3, ("wrong.h5",)),
        (("--random-encoder", "--output", "wrong.h5"), 3, ("wrong.h5", "Not a directory")),
    ],
)
def test_what_cannot_be_done_is_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.h5").write_bytes(b"no weights")
    refused(run("--data", data, *options), code, *words)


def test_data_that_cannot_be_used_are_one_line(own: Path, tmp_path: Path) -> None:
    options = (*SMALL, "--output", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    refused(run("--data", tmp_path / "empty", *options), 3, tmp_path / "empty", "expected images")
    refused(run("--data", tmp_path / "none", *options), 3, tmp_path / "none", "found nothing")
    refused(run("--data", own, "--validation", own, *options), 3, "not trained on")
    (own / "masks" / "3.png").rename(own / "3.png")
    refused(run("--data", own, *options), 3, own, "mask for each of 10 images", "3.png")
    cv2.imwrite(str(own / "masks" / "3.png"), np.zeros((32, 64), np.uint8))
    refused(run("--data", own, *options), 3, own / "masks" / "3.png", "32x32, found 64x32")
    (own / "3.png").replace(own / "masks" / "3.png")
    (own / "images" / "5.png").write_bytes(b"")
    refused(run("--data", own, *options), 3, own / "images" / "5.png", "empty file")
    shutil.rmtree(own / "masks")
    refused(run("--data", own, *options), 3, own, "expected the folders images/ and masks/")
    assert not (tmp_path / "run").exists()


def test_no_network_for_the_encoder_says_what_to_give(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanonet_edge.extras import require

    def get_file(name: str, *_: Any, **__: Any) -> str:
        print("Downloading data from nowhere")
        raise Exception(f"URL fetch failure on {name}: None")  # noqa: TRY002 - as Keras

    monkeypatch.setattr(require("keras").utils, "get_file", get_file)
    result = run("--data", data, "--size", "32", "--output", tmp_path / "run")
    refused(result, 3, "0.35_224_no_top.h5", "--encoder-weights FILE, or --random-encoder")


def test_a_full_disk_is_one_line_that_names_the_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own error names no file."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run("--data", data, *SMALL, "--output", tmp_path / "run")
    refused(result, 3, tmp_path / "run" / "run.json", "No space left on device")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("module", ["albumentations", "matplotlib", "tensorboardX"])
def test_a_missing_library_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    from importlib import util

    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == module else find_spec(name))
    result = run("--data", tmp_path / "none", "--tensorboard", tmp_path / "log")
    refused(result, 2, f"{module} is not installed", "pip install 'nanonet-edge[")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL before the first epoch, in the middle of epochs of both sizes, and with the disk busy."""
    data = write_images(tmp_path / "data", 20, 64)
    options = ["--data", data, "--size", "64", "--preset", "fast", "--epochs", "9", "--batch", "2"]
    command = [sys.executable, "-m", "nanonet_edge", "train", *options, "--random-encoder", "--output"]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*map(str, command), str(whole)], check=True, capture_output=True, timeout=300)
    generator = random.Random(0)
    for lines in (0, 2, 4, 8):
        resume = ["--resume"] if (folder / "run.json").exists() else []
        process = subprocess.Popen(
            [*map(str, command), str(folder), *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while epochs_logged(folder) < lines and process.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.5) if lines else 8.0)
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
        if read_run(folder)["result"]:
            break
    if not read_run(folder)["result"]:
        subprocess.run(
            [*map(str, command), str(folder), "--resume"], check=True, capture_output=True, timeout=300
        )
    assert read_run(folder) == read_run(whole)
    for name in ("best.weights.h5", "last.weights.h5"):
        assert same_weights(load_checkpoint(folder / name).graph, load_checkpoint(whole / name).graph)
    assert epochs_logged(folder) == epochs_logged(whole) == 9


def epochs_logged(folder: Path) -> int:
    path = folder / "history.csv"
    return max(len(path.read_text().splitlines()) - 1, 0) if path.exists() else 0
