"""From a checkpoint to a bundle: what is in it, and what an export never does to a folder."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nanonet_edge import __version__
from nanonet_edge.bundle import Bundle
from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.contract import preprocess
from nanonet_edge.errors import CheckpointError, NanonetEdgeError, UnsupportedError, UsageError
from nanonet_edge.export import Boundary, ExportOptions, export_bundle
from nanonet_edge.export.exporter import check_rewrite
from nanonet_edge.extras import version_of
from nanonet_edge.graph import GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.manifest import MANIFEST_NAME, sha256_file
from nanonet_edge.passes import rewrite
from nanonet_edge.reference import KerasReference
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import Format, Head, Precision, Topology
from tests.export.networks import SIZE, network, with_weights

#: The least that an export can be: one file, no calibration.
QUICK = {"formats": (Format.TFLITE,), "precisions": (Precision.FP32,), "size": SIZE}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "mine.weights.h5"
    save_checkpoint(network(), path)
    return path


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def progress() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def bundle(
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    said: list[str],
    progress: list[tuple[str, int, int]],
) -> Bundle:
    """What no option but the weights and a small size gives."""
    options = ExportOptions(weights=checkpoint, size=SIZE)
    output = tmp_path_factory.mktemp("artifacts") / "nanonet-c"
    return export_bundle(options, output, report=said.append, progress=lambda *step: progress.append(step))


@pytest.fixture
def quick(bundle: Bundle, tmp_path: Path) -> Path:
    """An older bundle that may be written over."""
    return Path(shutil.copytree(bundle.root, tmp_path / "bundle"))


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what is in a bundle --------------------------------------------------------------------


def test_default_contents(bundle: Bundle) -> None:
    precisions = ("fp32", "fp16", "static_wi8_ai8")
    names = [f"nanonet-c.{p}.{f}" for f in ("tflite", "onnx", "openvino") for p in precisions]
    assert [artifact.name for artifact in bundle.artifacts] == names
    files = [f"{n}{ending}" for n in names for ending in ((".xml", ".bin") if "openvino" in n else ("",))]
    assert sorted(content(bundle.root)) == sorted(
        [*files, "golden.npz", MANIFEST_NAME, "reference.weights.h5"]
    )
    assert len(bundle.manifest.files) == len(files) + 2


def test_manifest(bundle: Bundle, checkpoint: Path) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.variant, manifest.topology) == ("nanonet-c", "c", Topology.RELEASED)
    assert (manifest.size, manifest.classes, manifest.head) == (SIZE, 1, Head.PROBABILITY)
    assert manifest.weights.sha256 == sha256_file(checkpoint)
    assert manifest.weights.origin == "mine.weights.h5"
    assert manifest.weights.parameters == 36_561
    assert manifest.versions["nanonet_edge"] == __version__
    assert manifest.versions["python"] == platform.python_version()
    for module in ("tensorflow", "onnx", "openvino", "ai_edge_litert"):
        assert manifest.versions[module] == version_of(module)
    for record in manifest.artifacts:
        assert record.graph == "rewritten"
        prepared = record.precision not in (Precision.FP32, Precision.FP16)
        assert record.passes == rewrite(network()).applied + ("scale-channels",) * prepared
        assert (record.calibration is not None) == record.precision.is_static
    # A bundle is given to others: nothing of this machine is in it.
    assert str(checkpoint.parent) not in (bundle.root / MANIFEST_NAME).read_text(encoding="utf-8")


def test_the_weights_are_a_copy_of_the_network(bundle: Bundle) -> None:
    copy = load_checkpoint(bundle.weights_path, variant="c", size=SIZE)
    for ours, theirs in zip(copy.graph, network(), strict=True):
        assert all(np.array_equal(array, theirs.weights[name]) for name, array in ours.weights.items())


def test_golden_vectors_come_from_the_reference(bundle: Bundle) -> None:
    golden = bundle.golden()
    assert golden.frames.shape == (4, SIZE, SIZE, 3)
    with KerasReference(bundle.weights_path, SIZE) as reference:
        assert np.abs(reference.probability(golden.frames) - golden.probability).max() <= 1e-6
        inputs = np.concatenate([preprocess(frame, reference.input) for frame in golden.frames])
    assert np.abs(evaluate(network(), inputs) - golden.probability).max() <= 1e-5
    assert 0.01 < float((golden.probability > 0.5).mean()) < 0.99


def test_every_artifact_reproduces_them(bundle: Bundle) -> None:
    golden = bundle.golden()
    bounds = {Precision.FP32: 1e-5, Precision.FP16: 5e-3, Precision.STATIC_WI8_AI8: 0.15}
    specs = {Format.OPENVINO: "openvino:f32"}
    for artifact in bundle.artifacts:
        with open_runtime(artifact, specs.get(artifact.record.format)) as runtime:
            found = np.stack([runtime.probability(frame) for frame in golden.frames])
            masks = np.stack([runtime.mask(frame) for frame in golden.frames])
        assert np.abs(found - golden.probability).max() <= bounds[artifact.record.precision], artifact.name
        assert np.array_equal(masks, found[..., 0] > 0.5), artifact.name


def test_report_and_progress(bundle: Bundle, said: list[str], progress: list[tuple[str, int, int]]) -> None:
    assert said == ["calibration: 64 generated frames; give --calibration DIR for ranges of your own images"]
    whole = [step for step in progress if step[0] == "export"]
    total = len(bundle.artifacts) + 2
    assert whole[0] == ("export", 0, total)
    assert whole[-1] == ("export", total, total)
    calibrating = [step for step in progress if step[0] == "calibrate"]
    assert calibrating[-1][1] == calibrating[-1][2] == len(calibrating)


def test_other_heads_topologies_and_formats(tmp_path: Path) -> None:
    weights = tmp_path / "described.weights.h5"
    save_checkpoint(network("c", 3, Topology.DESCRIBED), weights)
    options = ExportOptions(
        **{**QUICK, "formats": (Format.ONNX,)},
        weights=weights,
        boundary=Boundary(Head.MASK, "uint8", "rgb", "nchw"),
    )
    made = export_bundle(options, tmp_path / "out")
    assert (made.manifest.topology, made.manifest.classes) == (Topology.DESCRIBED, 3)
    (artifact,) = made.artifacts
    assert artifact.record.passes[-3:] == ("set-head", "swap-input-channels", "fold-input-scale")
    golden = made.golden()
    with open_runtime(artifact) as runtime:
        found = np.stack([runtime.mask(frame) for frame in golden.frames])
    assert np.mean(found == golden.probability.argmax(axis=-1)) > 0.999


# --- what an export does to a folder --------------------------------------------------------


def test_an_older_bundle_is_replaced_whole(quick: Path, checkpoint: Path) -> None:
    (quick / "golden.npz").write_bytes(b"damaged")
    made = export_bundle(ExportOptions(**QUICK, weights=checkpoint), quick)
    assert [artifact.name for artifact in made.artifacts] == ["nanonet-c.fp32.tflite"]
    assert len(content(quick)) == 4
    assert [path.name for path in quick.parent.iterdir()] == [quick.name]


def test_a_bundle_with_somebodys_file_in_it_is_not_replaced(quick: Path, checkpoint: Path) -> None:
    (quick / "notes.txt").write_text("mine")
    before = content(quick)
    with pytest.raises(UsageError, match=r"found notes\.txt: not replaced"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), quick)
    assert content(quick) == before


def test_a_folder_with_another_tools_manifest_is_not_a_bundle(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app", "icons": [{"src": "icon.png"}]}')
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"found thesis\.tex: not replaced"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_somebodys_folder_is_never_replaced(tmp_path: Path, checkpoint: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("years of work")
    with pytest.raises(UsageError, match="thesis: expected an empty folder or an older bundle"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), foreign)
    assert content(foreign).keys() == {"chapter1.tex"}


def test_a_file_is_never_replaced(tmp_path: Path, checkpoint: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(UsageError, match="file: expected a folder for the bundle, found a file"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), file)
    assert file.read_text() == "kept"


def test_a_parent_that_is_a_file_is_one_clear_error(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises((OSError, NanonetEdgeError), match="file"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), tmp_path / "file" / "bundle")


def test_an_export_that_fails_midway_changes_nothing(
    quick: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(quick)

    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28), "nanonet-c.fp32.tflite")

    monkeypatch.setattr("nanonet_edge.export.writers.ArtifactWriter.write", fail)
    with pytest.raises(OSError, match="No space left on device"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), quick)
    assert content(quick) == before
    assert [path.name for path in quick.parent.iterdir()] == [quick.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_leaves_the_old_bundle(small_disk: Path, checkpoint: Path) -> None:
    old = export_bundle(ExportOptions(**QUICK, weights=checkpoint), small_disk / "bundle")
    before = content(old.root)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(b"\0" * (free - 300_000))
    with pytest.raises(OSError, match="No space left on device"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), old.root)
    assert content(old.root) == before
    assert Bundle.open(old.root).manifest_sha256 == old.manifest_sha256
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "bundle"]


def test_a_disk_that_cannot_be_written_is_one_clear_error(small_disk: Path, checkpoint: Path) -> None:
    old = export_bundle(ExportOptions(**QUICK, weights=checkpoint), small_disk / "bundle")
    before = content(old.root)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, capture_output=True)
    with pytest.raises(OSError, match="Read-only file system"):
        export_bundle(ExportOptions(**QUICK, weights=checkpoint), old.root)
    assert content(old.root) == before


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"variant": "d"}, UsageError, "variant 'd' is unknown"),
        ({"variant": "a"}, CheckpointError, "expected NanoNet-A, found NanoNet-C"),
        ({"topology": Topology.DESCRIBED}, CheckpointError, "expected topology 'described'"),
        ({"size": 100}, UsageError, "expected a positive multiple of 32"),
        ({"size": 0}, UsageError, "expected a positive multiple of 32"),
        ({"weights": Path("missing.h5")}, CheckpointError, r"missing\.h5.*found nothing"),
        (
            {"formats": (Format.ONNX,), "precisions": (Precision.DYNAMIC_WI8,)},
            UnsupportedError,
            "onnx cannot be exported as dynamic_wi8: it can be fp32, fp16, static_wi8_ai8",
        ),
        ({"boundary": Boundary(input_dtype="int8")}, UnsupportedError, "fp32 cannot take int8 input"),
        ({"straight": True, "boundary": Boundary(Head.LOGIT)}, UnsupportedError, "drop --head"),
        ({"untrained": True}, UsageError, "--untrained means random weights"),
    ],
)
def test_refusals_come_before_any_work(
    tmp_path: Path, checkpoint: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    options = ExportOptions(**{**QUICK, "weights": checkpoint, **changes})
    with pytest.raises(error, match=message):
        export_bundle(options, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_rewrite_that_changes_the_function_is_caught() -> None:
    straight, rewritten = network(), rewrite(network()).graph
    check_rewrite(straight, rewritten)
    kernel = rewritten["head"].weights["kernel"] * np.float32(1.01)
    with pytest.raises(GraphError, match="please report this, and use --no-rewrite"):
        check_rewrite(straight, with_weights(rewritten, {"head": {"kernel": kernel}}))
    broken = with_weights(rewritten, {"head": {"bias": [np.nan]}})
    with pytest.raises(GraphError, match="differs by nan"):
        check_rewrite(straight, broken)
