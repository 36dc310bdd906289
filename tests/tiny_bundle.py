"""A valid bundle around a network of 28 parameters, made in a moment and without TensorFlow.

The network is grey = 3x3 box blur of (b + g + r) / 3, probability = sigmoid(10 * (grey - 0.5)),
with a little seeded noise on the kernel. Its masks are the bright blobs of a frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.manifest import (
    MANIFEST_NAME,
    ArtifactRecord,
    GoldenRecord,
    Manifest,
    WeightsRecord,
    record_file,
)
from nanonet_edge.variants import Format, Head, Precision, Topology

Floats = npt.NDArray[np.float32]

INPUT_NAME = "input"
OUTPUT_NAME = "probability"
_OPSET = 17
_IR_VERSION = 9


def tiny_weights(seed: int = 0) -> tuple[Floats, float]:
    """The kernel, (1, 3, 3, 3) as (out, in, height, width), and the bias."""
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, (1, 3, 3, 3))
    return (10.0 / 27.0 * noise / noise.mean()).astype(np.float32), -5.0


def tiny_frames(count: int, size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth coloured frames with dark and bright regions: (count, size, size, 3) uint8."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in coarse])


def tiny_reference(frames: npt.NDArray[np.uint8], seed: int = 0) -> Floats:
    """The network in NumPy: (n, H, W, 3) uint8 -> (n, H, W, 1) float32 probabilities."""
    kernel, bias = tiny_weights(seed)
    pixels = np.pad(frames.astype(np.float32) / 255.0, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(1, 2))
    logit = np.einsum("nhwcij,ocij->nhwo", windows, kernel) + bias
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float32)


def write_tiny_onnx(path: Path, size: int = 64, seed: int = 0, shift: float = 0.0) -> None:
    """Write the network as ONNX: NHWC float32 in, NCHW float32 out; `shift` is added to the bias."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel, bias = tiny_weights(seed)
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", [INPUT_NAME], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "Conv", ["nchw", "kernel", "bias"], ["logit"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]
            ),
            helper.make_node("Sigmoid", ["logit"], [OUTPUT_NAME]),
        ],
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, size, size, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, 1, size, size])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([bias + shift], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def write_tiny_openvino(path: Path, onnx_path: Path) -> tuple[Path, Path]:
    """Convert an ONNX file to OpenVINO IR at `path` (.xml) and beside it (.bin)."""
    import openvino

    openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=False)
    return path, path.with_suffix(".bin")


def make_tiny_bundle(root: Path, size: int = 64, seed: int = 0, fp16_shift: float = 0.02) -> Path:
    """Write a bundle into `root` (created if need be) and return `root`.

    Artifacts: ``tiny.fp32.onnx``; ``tiny.fp16.onnx``, whose logits are off by `fp16_shift`
    (0.02: Dice about 0.99; 0.15: about 0.95); ``tiny.fp32.openvino``.
    """
    root.mkdir(parents=True, exist_ok=True)
    fp32, fp16 = root / "tiny.fp32.onnx", root / "tiny.fp16.onnx"
    write_tiny_onnx(fp32, size, seed)
    write_tiny_onnx(fp16, size, seed, shift=fp16_shift)
    ir = write_tiny_openvino(root / "tiny.fp32.xml", fp32)

    frames = tiny_frames(4, size, seed)
    np.savez_compressed(root / "golden.npz", frames=frames, probability=tiny_reference(frames, seed))
    kernel, bias = tiny_weights(seed)
    (root / "weights.bin").write_bytes(kernel.tobytes() + np.float32(bias).tobytes())

    weights = record_file(root / "weights.bin", root)
    manifest = Manifest(
        name="tiny",
        created="2024-01-01T00:00:00+00:00",
        variant="c",
        topology=Topology.RELEASED,
        classes=1,
        size=size,
        head=Head.PROBABILITY,
        weights=WeightsRecord(file=weights, sha256=weights.sha256, origin="made by the tests", parameters=28),
        golden=GoldenRecord(
            file=record_file(root / "golden.npz", root), count=len(frames), source="generated"
        ),
        artifacts=(
            _artifact(root, Format.ONNX, Precision.FP32, (fp32,), size),
            _artifact(root, Format.ONNX, Precision.FP16, (fp16,), size),
            _artifact(root, Format.OPENVINO, Precision.FP32, ir, size),
        ),
        versions={},
    )
    (root / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return root


def _artifact(
    root: Path, file_format: Format, precision: Precision, paths: tuple[Path, ...], size: int
) -> ArtifactRecord:
    return ArtifactRecord(
        name=f"tiny.{precision}.{file_format}",
        format=file_format,
        precision=precision,
        graph="rewritten",
        files=tuple(record_file(path, root) for path in paths),
        input=InputContract(name=INPUT_NAME, shape=(1, size, size, 3)),
        output=OutputContract(name=OUTPUT_NAME, shape=(1, 1, size, size), layout="nchw"),
    )
