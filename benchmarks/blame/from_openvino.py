"""An OpenVINO IR as a `Network`: each FakeQuantize of an activation becomes a point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.benchmarks.blame.network import Array, Network, Storage, unique_names
from nanonet_edge.errors import InputError, UnsupportedError
from nanonet_edge.extras import require

_ROUNDING_TOLERANCE = 1e-3
_AUTO_PAD = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}


def read_openvino(path: Path) -> Network:
    """Read an IR, `.xml` with its `.bin` beside it.

    Raises:
        InputError: a file is missing or is no IR.
        UnsupportedError: it has an operation that is not known here.
        MissingExtraError: openvino is not installed.
    """
    openvino: Any = require("openvino")
    if not path.is_file():
        raise InputError(
            f"{path}: expected an OpenVINO IR, found {'a folder' if path.exists() else 'nothing'}"
        )
    try:
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise InputError(f"{path}: expected an OpenVINO IR, found {lines[-1] if lines else error}") from None
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedError(f"{path}: expected one input and one output")
    return _OpenVinoReader(path, model).read()


class _OpenVinoReader:
    def __init__(self, path: Path, model: Any) -> None:
        self.path = path
        self.operations = model.get_ordered_ops()
        plain = [operation.get_friendly_name() for operation in self.operations]
        self.names = {o.get_name(): n for o, n in zip(self.operations, unique_names(plain), strict=True)}
        entry = model.inputs[0]
        name = self.names[entry.get_node().get_name()]
        self.network = Network(name, tuple(entry.get_shape()), takes_stored=True)

    def read(self) -> Network:
        for operation in self.operations:
            if self.fold(operation):
                continue
            kind = operation.get_type_name()
            if kind not in _EMITTERS:
                raise UnsupportedError(
                    f"{self.path}: operation '{operation.get_friendly_name()}': {kind} is not looked into"
                )
            _EMITTERS[kind](self, operation)
        return self.network

    def name(self, operation: Any) -> str:
        """The name of an operation's output."""
        return self.names[operation.get_name()]

    def inputs(self, operation: Any) -> list[str]:
        """The names of an operation's inputs."""
        return [self.names[one.get_source_output().get_node().get_name()] for one in operation.inputs()]

    def constant(self, operation: Any, position: int) -> Array:
        """An input that must be a constant."""
        name = self.inputs(operation)[position]
        try:
            return self.network.constants[name]
        except KeyError:
            raise UnsupportedError(
                f"{self.path}: operation '{operation.get_friendly_name()}': expected a constant '{name}'"
            ) from None

    def fold(self, operation: Any) -> bool:
        """Compute what depends on constants alone: weights as real numbers."""
        kind, constants = operation.get_type_name(), self.network.constants
        inputs = self.inputs(operation)
        if kind not in _FOLDED or not inputs or any(name not in constants for name in inputs):
            return False
        name, values = self.name(operation), [constants[name] for name in inputs]
        constants[name] = _FOLDED[kind](operation, values)
        if kind == "Multiply" and values[0].ndim == 4 and values[1].size in (1, len(values[0])):
            # Integers times a scale per output channel, as both quantizers write weights.
            self.network.scales[name] = np.broadcast_to(values[1].reshape(-1), (len(values[0]),))
        elif kind == "Reshape" and inputs[0] in self.network.scales:
            self.network.scales[name] = self.network.scales[inputs[0]]
        return True

    def plain(self, operation: Any, op: str, **attributes: Any) -> None:
        """Append `op` with all inputs."""
        self.network.add(op, self.inputs(operation), self.name(operation), **attributes)

    def first(self, operation: Any, op: str, extra: list[str] | None = None, **attributes: Any) -> None:
        """Append `op` with the first input and constants of our own."""
        inputs = [self.inputs(operation)[0], *(extra or [])]
        self.network.add(op, inputs, self.name(operation), **attributes)

    def numbers(self, operation: Any, what: str, values: Any, dtype: Any = np.int64) -> str:
        """A constant of our own."""
        return self.network.constant(f"{self.name(operation)}:{what}", np.asarray(values, dtype))

    def store_constant(self, operation: Any) -> None:
        """Keep a constant; halves become single."""
        data = np.asarray(operation.get_data())
        self.network.constant(
            self.name(operation), data.astype(np.float32) if data.dtype == np.float16 else data
        )

    def fake_quantize(self, operation: Any) -> None:
        """A point on the tensor before, or on a copy of it where it has another one already."""
        bounds = [self.constant(operation, position) for position in range(1, 5)]
        if any(bound.size != 1 for bound in bounds):
            raise self._not_one_scale(operation)
        taken_low, taken_high, low, high = (float(bound.reshape(-1)[0]) for bound in bounds)
        levels = int(operation.get_attributes()["levels"])
        if levels < 2 or not (high > low and taken_high > taken_low):
            raise self._not_one_scale(operation)
        scale = (high - low) / (levels - 1)
        zero = round(-low / scale)
        if abs(-low / scale - zero) > _ROUNDING_TOLERANCE * levels:
            raise self._not_one_scale(operation)
        source, name = self.inputs(operation)[0], self.name(operation)
        storage = Storage(scale, zero, 0, levels - 1)
        if not np.allclose((taken_low, taken_high), (low, high), rtol=1e-4, atol=1e-3 * scale):
            # What was stored by another rule becomes real values here: pixels of 0 to 255.
            factor = (high - low) / (taken_high - taken_low)
            by = self.numbers(operation, "factor", factor, np.float32)
            shift = self.numbers(operation, "shift", low - taken_low * factor, np.float32)
            source = self.network.add("Mul", [source, by], f"{name}:scaled")
            source = self.network.add("Add", [source, shift], f"{name}:shifted")
        readers = operation.inputs()[0].get_source_output().get_target_inputs()
        if len(readers) > 1 or self.network.points.setdefault(source, storage) != storage:
            # Stored for some of its readers alone, or anew in another way.
            self.network.add("Identity", [source], name)
            self.network.points[name] = storage
            return
        self.names[operation.get_name()] = source

    def _not_one_scale(self, operation: Any) -> UnsupportedError:
        return UnsupportedError(
            f"{self.path}: '{operation.get_friendly_name()}': expected one scale for all of an activation,"
            " and zero among its values"
        )

    def convolution(self, operation: Any) -> None:
        """Append a Convolution or a GroupConvolution; its bias is an Add of its own."""
        attributes = operation.get_attributes()
        source, kernel = self.inputs(operation)
        groups = 1
        if operation.get_type_name() == "GroupConvolution":
            stored = self.constant(operation, 1)
            groups = stored.shape[0]
            grouped = self.network.constant(f"{kernel}:grouped", stored.reshape(-1, *stored.shape[2:]))
            if kernel in self.network.scales:
                self.network.scales[grouped] = self.network.scales[kernel]
            kernel = grouped
        fields: dict[str, Any] = {"strides": attributes["strides"], "dilations": attributes["dilations"]}
        if (auto := attributes["auto_pad"]) in _AUTO_PAD:
            fields["auto_pad"] = _AUTO_PAD[auto]
        else:
            fields["pads"] = (*attributes["pads_begin"], *attributes["pads_end"])
        name = self.network.add("Conv", [source, kernel], self.name(operation), group=groups, **fields)
        if kernel in self.network.scales:
            self.network.kernels[name] = (kernel, self._bias(operation))

    def _bias(self, operation: Any) -> str | None:
        """The constant that alone is added to what an operation gives, if any."""
        targets = list(operation.output(0).get_target_inputs())
        if len(targets) != 1 or targets[0].get_node().get_type_name() != "Add":
            return None
        sources = [one.get_source_output().get_node() for one in targets[0].get_node().inputs()]
        others = [node for node in sources if node.get_name() != operation.get_name()]
        return self.name(others[0]) if others and _is_constant(others[0]) else None

    def interpolate(self, operation: Any) -> None:
        """Append a Resize to the size that the IR gives."""
        attributes = operation.get_attributes()
        mode = attributes["mode"]
        sizes = self.numbers(operation, "sizes", list(operation.output(0).get_shape()))
        fields = {"mode": "nearest" if mode == "nearest" else "linear"}
        if mode == "nearest":
            fields["nearest_mode"] = attributes["nearest_mode"]
        where = attributes["coordinate_transformation_mode"]
        self.first(operation, "Resize", ["", "", sizes], coordinate_transformation_mode=where, **fields)

    def mean(self, operation: Any) -> None:
        """Append a mean over height and width."""
        axes = sorted(int(axis) % 4 for axis in self.constant(operation, 1).reshape(-1))
        if axes != [2, 3] or not operation.get_attributes()["keep_dims"]:
            raise UnsupportedError(
                f"{self.path}: '{operation.get_friendly_name()}': expected a mean over height and width"
            )
        self.first(operation, "GlobalAveragePool")

    def clamp(self, operation: Any) -> None:
        """Append a Clip."""
        attributes = operation.get_attributes()
        limits = [self.numbers(operation, key, attributes[key], np.float32) for key in ("min", "max")]
        self.first(operation, "Clip", limits)

    def pool(self, operation: Any) -> None:
        """Append a MaxPool."""
        attributes = operation.get_attributes()
        pads = (*attributes["pads_begin"], *attributes["pads_end"])
        self.first(
            operation, "MaxPool", kernel_shape=attributes["kernel"], strides=attributes["strides"], pads=pads
        )

    def pad(self, operation: Any) -> None:
        """Append a Pad."""
        amounts = [self.constant(operation, position).reshape(-1) for position in (1, 2)]
        mode = operation.get_attributes()["pad_mode"]
        self.first(operation, "Pad", [self.numbers(operation, "pads", np.concatenate(amounts))], mode=mode)

    def transpose(self, operation: Any) -> None:
        """Append a Transpose."""
        self.first(operation, "Transpose", perm=[int(axis) for axis in self.constant(operation, 1)])

    def result(self, operation: Any) -> None:
        """Note the output."""
        (self.network.output,) = self.inputs(operation)


def _is_constant(operation: Any) -> bool:
    """Whether what an operation gives depends on no input of the network."""
    pending, seen = [operation], set()
    while pending:
        current = pending.pop()
        if current.get_type_name() == "Parameter":
            return False
        seen.add(current.get_name())
        before = [one.get_source_output().get_node() for one in current.inputs()]
        pending += [node for node in before if node.get_name() not in seen]
    return True


def _convert(operation: Any, inputs: list[Array]) -> Array:
    return inputs[0].astype(np.float32 if operation.get_element_type().is_real() else np.int64)


_FOLDED: dict[str, Callable[[Any, list[Array]], Array]] = {
    "Convert": _convert,
    "Multiply": lambda operation, inputs: inputs[0] * inputs[1],
    "Subtract": lambda operation, inputs: inputs[0] - inputs[1],
    "Add": lambda operation, inputs: inputs[0] + inputs[1],
    "Reshape": lambda operation, inputs: inputs[0].reshape(tuple(operation.output(0).get_shape())),
    "Transpose": lambda operation, inputs: inputs[0].transpose([int(axis) for axis in inputs[1]]),
}

_EMITTERS: dict[str, Callable[[_OpenVinoReader, Any], object]] = {
    "Parameter": lambda r, o: None,
    "Constant": _OpenVinoReader.store_constant,
    "Result": _OpenVinoReader.result,
    "FakeQuantize": _OpenVinoReader.fake_quantize,
    "Convolution": _OpenVinoReader.convolution,
    "GroupConvolution": _OpenVinoReader.convolution,
    "Interpolate": _OpenVinoReader.interpolate,
    "ReduceMean": _OpenVinoReader.mean,
    "Clamp": _OpenVinoReader.clamp,
    "MaxPool": _OpenVinoReader.pool,
    "Pad": _OpenVinoReader.pad,
    "Transpose": _OpenVinoReader.transpose,
    "Convert": lambda r, o: r.first(o, "Identity"),
    "Multiply": lambda r, o: r.plain(o, "Mul"),
    "Subtract": lambda r, o: r.plain(o, "Sub"),
    "Add": lambda r, o: r.plain(o, "Add"),
    "Relu": lambda r, o: r.plain(o, "Relu"),
    "Sigmoid": lambda r, o: r.plain(o, "Sigmoid"),
    "Softmax": lambda r, o: r.plain(o, "Softmax", axis=o.get_attributes()["axis"]),
    "SoftMax": lambda r, o: r.plain(o, "Softmax", axis=o.get_attributes()["axis"]),
    "Concat": lambda r, o: r.plain(o, "Concat", axis=o.get_attributes()["axis"]),
    "DepthToSpace": lambda r, o: r.first(
        o,
        "DepthToSpace",
        blocksize=o.get_attributes()["block_size"],
        mode="DCR" if o.get_attributes()["mode"] == "blocks_first" else "CRD",
    ),
}
