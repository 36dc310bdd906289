from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner, Result

from nanonet_edge import masks
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.blame import BlameResult, LayerBlame, blame, find_subject
from nanonet_edge.benchmarks.blame.simulate import Simulator
from nanonet_edge.benchmarks.blame.threshold import CUTOFFS, best_cutoff, dice_by_cutoff, fit_threshold
from nanonet_edge.bundle import Bundle
from nanonet_edge.cli.blame import blame as command
from nanonet_edge.contract import preprocess, to_mask
from nanonet_edge.errors import InputError, NanonetEdgeError, UnsupportedError, UsageError
from nanonet_edge.export.writers import Boundary
from nanonet_edge.results import load_result
from nanonet_edge.variants import Format, Head, Precision
from tests.benchmarks.blame.bundles import write_bundle, write_file
from tests.export.networks import SIZE, calibration_frames
from tests.tiny_bundle import INPUT_NAME, make_tiny_bundle, write_tiny_onnx

#: A tensor whose range is made so wide that only a few of the 256 levels are left.
SPOILT = "decoder_3_relu"

app = typer.Typer()
app.command()(command)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("blame") / "nanonet-c"
    return write_bundle(
        root, (Format.ONNX,), precisions=(Precision.FP32, Precision.STATIC_WI8_AI8), widened={SPOILT: 40.0}
    )


@pytest.fixture(scope="module")
def data() -> VerificationData:
    return VerificationData.generated(2, seed=3, size=SIZE)


@pytest.fixture(scope="module")
def result(bundle: Bundle, data: VerificationData) -> BlameResult:
    return blame(find_subject(bundle.root), data, threads=1)


def row(result: BlameResult, layer: str) -> LayerBlame:
    return next(one for one in result.layers if one.layer == layer)


def test_a_spoilt_layer_is_to_blame(result: BlameResult) -> None:
    assert result.layers[0].layer == SPOILT
    worst = row(result, SPOILT)
    assert worst.gain.mean > 0.01
    assert worst.loss.mean > 0.01
    assert worst.rounding_db is not None
    assert worst.rounding_db == min(one.rounding_db for one in result.layers if one.rounding_db is not None)
    gains = [one.gain.mean for one in result.layers]
    assert gains == sorted(gains, reverse=True)


def test_gain_and_loss_are_those_of_the_layer_alone(
    bundle: Bundle, data: VerificationData, result: BlameResult
) -> None:
    subject = find_subject(bundle.root)
    simulator = Simulator(subject.network)
    alone = [layer for layer in simulator.layers if layer.name == SPOILT]
    others = [layer for layer in simulator.layers if layer.name != SPOILT]

    def labels(layers: Any) -> list[npt.NDArray[np.uint8]]:
        model, found = simulator.model(layers), []
        for item in data:
            output = model(preprocess(item.frame, subject.takes))[0]
            found.append(to_mask(output, subject.gives(output.shape)))
        return found

    reference = labels([])

    def dice(layers: Any) -> float:
        return float(
            np.mean([masks.overlap(a, b).dice for a, b in zip(reference, labels(layers), strict=True)])
        )

    assert result.dice.mean == pytest.approx(dice(simulator.layers))
    assert row(result, SPOILT).gain.mean == pytest.approx(dice(others) - dice(simulator.layers))
    assert row(result, SPOILT).loss.mean == pytest.approx(1 - dice(alone))


def test_the_engine_is_what_was_simulated(result: BlameResult) -> None:
    assert result.engine is not None
    assert result.engine.spec == "onnxruntime"
    assert result.engine.mean_dice > 0.95
    assert result.dice_engine == pytest.approx(result.dice.mean, abs=0.03)
    assert result.obtained == "predicted"
    assert result.engine.obtained == "measured"


def test_weights_and_activations_are_told_apart(result: BlameResult) -> None:
    assert result.float_weights
    assert result.dice_weights_only is not None
    assert result.dice_activations_only is not None
    # What was spoilt is an activation.
    assert result.dice_weights_only > result.dice_activations_only


def test_figures_without_a_value_say_why(result: BlameResult) -> None:
    for one in result.layers:
        for figure in ("sqnr_db", "rounding_db", "weights_db"):
            assert (getattr(one, figure) is None) == (figure in one.missing)


def test_pixels_lose_nothing(result: BlameResult) -> None:
    pixels = next(one for one in result.layers if one.op == "input")
    assert pixels.loss.mean == pytest.approx(0, abs=1e-3)
    assert pixels.sqnr_db is None or pixels.sqnr_db > 60


@pytest.mark.parametrize("file_format", Format)
def test_every_format_blames_one_layer(tmp_path: Path, file_format: Format, data: VerificationData) -> None:
    path = write_file(tmp_path / "b", file_format, {"sum": 40.0})
    found = blame(find_subject(path), data, threads=1)
    assert found.layers[0].layer == "sum"
    assert found.format is file_format
    assert not found.float_weights


def test_a_file_of_another_tool(tmp_path: Path, data: VerificationData) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Frames(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            frames = calibration_frames(2)
            pixels = (frames.read(index).astype(np.float32) / 255 for index in range(2))
            self._left = iter([{INPUT_NAME: one[np.newaxis]} for one in pixels])

        def get_next(self) -> Any:
            return next(self._left, None)

    write_tiny_onnx(tmp_path / "float.onnx", SIZE)
    path = tmp_path / "other.onnx"
    quantize_static(tmp_path / "float.onnx", path, Frames(), quant_format=QuantFormat.QDQ, per_channel=True)
    found = blame(find_subject(path), data, threads=1)
    assert "logit" in {one.layer for one in found.layers}
    assert not found.float_weights
    assert "dice_weights_only" in found.missing
    assert found.engine is None
    assert 0.9 < found.dice.mean <= 1


def damaged(tmp_path: Path, name: str, content: bytes = b"no model") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite", "a.xml", "a.bin"])
def test_no_model_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        find_subject(damaged(tmp_path, name))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from(["onnx", "tflite"]))
def test_bytes_are_no_model(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = damaged(tmp_path_factory.mktemp("damaged"), f"a.{suffix}", content)
    with pytest.raises(NanonetEdgeError):
        find_subject(path)


def test_a_float_artifact_has_nothing_to_blame(tmp_path: Path) -> None:
    tiny = make_tiny_bundle(tmp_path / "tiny")
    with pytest.raises(UnsupportedError, match="nothing to blame"):
        find_subject(tiny, "tiny.fp32.onnx")
    with pytest.raises(UnsupportedError, match="--int8"):
        find_subject(tiny)
    write_tiny_onnx(tmp_path / "float.onnx")
    with pytest.raises(UnsupportedError, match="nothing to blame"):
        find_subject(tmp_path / "float.onnx")


def test_masks_hide_what_comes_before(tmp_path: Path) -> None:
    hidden = write_bundle(tmp_path / "b", (Format.ONNX,), boundary=Boundary(head=Head.MASK))
    with pytest.raises(UnsupportedError, match="--head probability"):
        find_subject(hidden.root)


def test_operators_that_are_not_known(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]>
        agraph (float[1, 8, 8, 3] frame) => (float[1, 8, 8, 3] y)
        <float s = {0.1}, int8 z = {0}>
        { q = QuantizeLinear (frame, s, z)
          r = Relu (q)
          y = DequantizeLinear (r, s, z) }"""
    )
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match="QDQ form"):
        find_subject(tmp_path / "a.onnx")


@given(
    arrays.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32)),
    arrays.arrays(np.uint8, (5, 7), elements=st.integers(0, 1)),
)
def test_dice_of_every_cutoff(probability: npt.NDArray[np.float32], reference: npt.NDArray[np.uint8]) -> None:
    found = dice_by_cutoff(probability, reference)
    for index in (0, 60, 127, 128, 254):
        mask = (probability > CUTOFFS[index]).astype(np.uint8)
        assert found[index] == pytest.approx(masks.overlap(reference, mask).dice)


def test_an_offset_is_told_from_structure() -> None:
    rng = np.random.default_rng(0)
    exact = [rng.random((32, 32, 1), np.float32) for _ in range(4)]
    references = [(p[..., 0] > 0.5).astype(np.uint8) for p in exact]
    moved = fit_threshold([p * np.float32(0.8) for p in exact], references, "simulation")
    assert moved is not None
    assert moved.threshold == pytest.approx(0.4, abs=0.01)
    assert moved.dice_default < 0.95
    assert moved.dice_fitted > 0.99
    assert moved.offset + moved.structural == pytest.approx(1 - moved.dice_default)
    noise = fit_threshold([1 - p for p in exact], references, "simulation")
    assert noise is not None
    assert noise.structural > 0.3
    assert fit_threshold(exact[:1], references[:1], "simulation") is None
    flat = np.ones((2, len(CUTOFFS)))
    assert CUTOFFS[best_cutoff(flat)] == 0.5


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})


def test_command(tmp_path: Path) -> None:
    spoilt = write_file(tmp_path / "b", Format.TFLITE, {"sum": 40.0})
    plot, output = tmp_path / "plot.png", tmp_path / "out.json"
    done = run(spoilt, "--images", 1, "--top", 3, "--plot", plot, "--threads", 1, "--output", output)
    assert done.exit_code == 0, done.output
    assert "sum" in next(line for line in done.stdout.splitlines() if line.startswith("│"))
    assert "GENERATED" in done.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    saved = load_result(output, BlameResult)
    assert saved.layers[0].layer == "sum"
    assert saved.missing["threshold"]


def test_command_json_and_page(tmp_path: Path) -> None:
    page, output = tmp_path / "plot.html", tmp_path / "out.json"
    arguments = ("--images", 1, "--json", "--plot", page, "--output", output, "--threads", 1)
    done = run(write_file(tmp_path / "b", Format.ONNX), *arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(output.read_text())
    assert "probability" in page.read_text(encoding="utf-8")


def test_command_refuses_other_pictures(tmp_path: Path) -> None:
    done = run(tmp_path, "--plot", tmp_path / "a.gif")
    assert isinstance(done.exception, UsageError)
    assert ".png or .html" in str(done.exception)


def test_a_graph_that_cannot_be_simulated_is_one_line(tmp_path: Path, data: VerificationData) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]>
        agraph (float[N, 3, 64, 64] frame) => (float[N, 1, 64, 64] y)
        <float s = {0.1}, int8 z = {0}, float[1, 4, 1, 1] k = {1, 1, 1, 1}>
        { q = QuantizeLinear (frame, s, z)
          r = DequantizeLinear (q, s, z)
          y = Conv (r, k) }"""
    )
    onnx.save(model, tmp_path / "a.onnx")
    subject = find_subject(tmp_path / "a.onnx")
    assert subject.network.shape == (1, 3, 64, 64)
    with pytest.raises(UnsupportedError, match="cannot simulate") as caught:
        blame(subject, data, threads=1)
    assert "\n" not in str(caught.value)
