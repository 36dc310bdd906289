"""The artifact that is looked into: found by a path, read into a `Network`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.benchmarks.blame.channels import scale_like
from nanonet_edge.benchmarks.blame.from_onnx import read_onnx
from nanonet_edge.benchmarks.blame.from_openvino import read_openvino
from nanonet_edge.benchmarks.blame.from_tflite import read_tflite_network
from nanonet_edge.benchmarks.blame.network import Network, complete
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.contract import PROBABILITY_THRESHOLD, InputContract, OutputContract
from nanonet_edge.errors import InputError, UnsupportedError, UsageError
from nanonet_edge.graph import Graph
from nanonet_edge.manifest import MANIFEST_NAME, ArtifactRecord
from nanonet_edge.passes import SetHead, SwapInputChannels, rewrite
from nanonet_edge.variants import Format, Head

_READERS: dict[Format, Callable[[Path], Network]] = {
    Format.TFLITE: read_tflite_network,
    Format.ONNX: read_onnx,
    Format.OPENVINO: read_openvino,
}
_SUFFIXES = {".tflite": Format.TFLITE, ".onnx": Format.ONNX, ".xml": Format.OPENVINO}


@dataclass(frozen=True)
class Subject:
    """An integer artifact and its simulation.

    Attributes:
        name: of the artifact, or of the file.
        path: the file.
        format: of it.
        network: read from it, completed.
        float_weights: whether the network knows its weights before rounding.
        takes: what the simulation takes, as float32 of `preprocess`.
        artifact: in its bundle, or None for a lone file.
        notes: what a user should know, one line each.
    """

    name: str
    path: Path
    format: Format
    network: Network
    float_weights: bool
    takes: InputContract
    artifact: Artifact | None = None
    notes: tuple[str, ...] = ()

    def gives(self, shape: tuple[int, ...]) -> OutputContract:
        """What the simulation gives, from the shape of its output.

        Raises:
            UnsupportedError: no mask can be made of it.
        """
        size = self.takes.size
        layout: Any = "nchw" if shape[2:] == size else "nhwc"
        if len(shape) != 4 or size not in (shape[2:], shape[1:3]):
            raise UnsupportedError(
                f"{self.path}: expected an output of the input's height and width {list(size)},"
                f" found the shape {list(shape)}"
            )
        classes = shape[1] if layout == "nchw" else shape[3]
        kind = self._kind()
        threshold = PROBABILITY_THRESHOLD if kind is Head.PROBABILITY else 0.0
        return OutputContract(
            name=self.network.output,
            shape=shape,
            layout=layout,
            kind=kind,
            classes=classes,
            threshold=threshold if classes == 1 else None,
        )

    def _kind(self) -> Head:
        if self.artifact is not None:
            return self.artifact.record.output.kind
        made = {step.output: step for step in self.network.steps}
        last = made[self.network.output]
        while last.op in ("Identity", "Transpose") and last.inputs[0] in made:
            last = made[last.inputs[0]]
        return Head.PROBABILITY if last.op in ("Sigmoid", "Softmax") else Head.LOGIT


def find_subject(path: Path, name: str | None = None) -> Subject:
    """Find an artifact and read it.

    Args:
        path: a bundle, an artifact's file in one, or a file of some other tool.
        name: which artifact of a bundle; None takes its first static one.

    Raises:
        BundleError, InputError: the path does not lead to a readable model.
        UsageError: a name and a file.
        UnsupportedError: there is nothing quantized in it, or it is built in a way not known here.
        MissingExtraError: a library is not installed.
    """
    if path.is_dir():
        bundle = Bundle.open(path)
        return _of_bundle(bundle, bundle.artifact(name) if name else _first_static(bundle), named=bool(name))
    if name is not None:
        raise UsageError(f"--artifact names one of a bundle, and {path} is no bundle")
    if (path.parent / MANIFEST_NAME).is_file():
        bundle = Bundle.open(path.parent)
        for artifact in bundle.artifacts:
            if path.name in (file.path for file in artifact.record.files):
                return _of_bundle(bundle, artifact, named=True)
    return _lone(path)


def _first_static(bundle: Bundle) -> Artifact:
    for artifact in bundle.artifacts:
        if artifact.record.precision.has_integer_activations:
            return artifact
    raise UnsupportedError(
        f"{bundle.root}: expected an artifact with integer activations: export with --int8"
    )


def _of_bundle(bundle: Bundle, artifact: Artifact, *, named: bool) -> Subject:
    record = artifact.record
    if not record.precision.has_integer_activations:
        raise UnsupportedError(
            f"{artifact.path}: expected integer activations, found {record.precision}: nothing to blame"
        )
    if record.output.kind is Head.MASK:
        raise UnsupportedError(
            f"{artifact.path}: its masks hide what comes before: export with --head probability"
        )
    network = _READERS[record.format](artifact.path)
    graph = _float_graph(bundle, record) if record.graph == "rewritten" else None
    known = complete(network, None if graph is None else scale_like(network, graph))
    notes = [] if named else [f"looking into {artifact.name}; --artifact names another"]
    if not known:
        notes.append("float weights unknown: only activations are judged")
    if network.takes_stored:
        takes = record.input
        _make_output_real(network, record.output)
    else:
        takes = record.input.model_copy(update={"dtype": "float32", "scale": 1.0, "zero_point": 0})
    return Subject(artifact.name, artifact.path, record.format, network, known, takes, artifact, tuple(notes))


def _make_output_real(network: Network, gives: OutputContract) -> None:
    """Append what makes real values of an output that the file gives as stored."""
    if (gives.scale, gives.zero_point) == (1.0, 0):
        return
    zero = network.constant("output:zero", np.array(gives.zero_point, np.float32))
    scale = network.constant("output:scale", np.array(gives.scale, np.float32))
    shifted = network.add("Sub", [network.output, zero], "output:shifted")
    network.output = network.add("Mul", [shifted, scale], "output:real")


def _float_graph(bundle: Bundle, record: ArtifactRecord) -> Graph:
    """The rewritten float graph of a bundle's own weights, with the ends of the artifact."""
    checkpoint = load_checkpoint(bundle.weights_path, size=bundle.manifest.size)
    ends: list[Any] = [SetHead(record.output.kind)]
    if record.input.channel_order == "rgb":
        ends.append(SwapInputChannels())
    return rewrite(rewrite(checkpoint.graph).graph, ends).graph


def _lone(path: Path) -> Subject:
    file_format = _SUFFIXES.get(path.suffix.lower())
    if not path.is_file():
        raise InputError(f"{path}: expected a bundle or a model file, found nothing")
    if file_format is None:
        raise InputError(
            f"{path}: expected a model file ({', '.join(_SUFFIXES)}), found {path.suffix or 'no suffix'}"
        )
    network = _READERS[file_format](path)
    if not network.points:
        raise UnsupportedError(f"{path}: expected integer activations, found none: nothing to blame")
    complete(network, None)
    # A batch that is left open is one frame here.
    network.shape = (max(network.shape[0], 1), *network.shape[1:]) if network.shape else ()
    shape: Any = network.shape
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1 or 3 not in (shape[3], shape[1]):
        raise UnsupportedError(
            f"{path}: expected an input of one frame, a fixed size and three channels, found {list(shape)}"
        )
    layout: Any = "nhwc" if shape[3] == 3 else "nchw"
    takes = InputContract(name=network.input, shape=shape, layout=layout)
    note = (
        f"{path.name} has no {MANIFEST_NAME} beside it: fed BGR pixels in [0, 1]; "
        "float weights unknown: only activations are judged"
    )
    return Subject(path.name, path, file_format, network, False, takes, None, (note,))
