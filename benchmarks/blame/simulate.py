"""Run a `Network` with some of its layers in integers and the others in float.

Rounding is simulated in fp32 by onnxruntime: divide, round to even, clip, multiply. Nothing is
fused with it, so every layer can be switched by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.blame.network import Layer, Network, Step
from nanonet_edge.errors import UnsupportedError
from nanonet_edge.extras import require
from nanonet_edge.runtimes.base import one_line

Tensor = npt.NDArray[np.float32]

_IR_VERSION = 8
#: Limits of what onnxruntime rounds in one operation.
_BYTES = {(-128, 127): np.int8, (0, 255): np.uint8}


class Simulator:
    """Makes runnable models of a network.

    Args:
        network: completed; see `complete`.
        threads: of onnxruntime.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    def __init__(self, network: Network, threads: int = 1) -> None:
        self.network = network
        self.layers = network.layers()
        self._helper: Any = require("onnx.helper")
        self._numpy: Any = require("onnx.numpy_helper")
        self._engine: Any = require("onnxruntime")
        self._threads = threads

    def model(
        self,
        activations: Collection[Layer] = (),
        weights: Collection[Layer] | None = None,
        observed: Sequence[str] = (),
    ) -> Model:
        """A model in which some layers are in integers.

        Args:
            activations: whose tensors are rounded.
            weights: whose weights are; None for those of the same layers.
            observed: tensors that the model gives besides its output, as they are read: rounded
                where they are.

        Raises:
            UnsupportedError: onnxruntime refuses the network, which may be a file of any tool.
        """
        rounded = {layer.tensor for layer in activations if layer.tensor is not None}
        integer = {
            name
            for layer in (activations if weights is None else weights)
            for name in (layer.kernel, layer.bias)
            if name is not None
        }
        try:
            session = self._session(rounded, integer, observed)
        except Exception as error:  # onnxruntime and onnx have classes of their own
            raise UnsupportedError(f"onnxruntime cannot simulate this graph: {one_line(error)}") from error
        return Model(session, self.network.input)

    def _session(self, rounded: set[str], integer: set[str], observed: Sequence[str]) -> Any:
        network, helper = self.network, self._helper
        constants = {
            name: network.floats.get(name, array) if name not in integer else array
            for name, array in network.constants.items()
        }
        exact = integer & network.scales.keys()
        nodes: list[Any] = []
        read_as: dict[str, str] = {}
        if network.input in rounded:
            read_as[network.input] = self._round(network.input, nodes, constants)
        for step in network.steps:
            if step.output in network.kernels and step.inputs[0] in rounded and step.inputs[1] in exact:
                self._convolve_integers(step, nodes, constants)
            else:
                inputs = [read_as.get(name, name) for name in step.inputs]
                nodes.append(helper.make_node(step.op, inputs, [step.output], **step.attributes))
            if step.output in rounded:
                read_as[step.output] = self._round(step.output, nodes, constants)
        used = {name for node in nodes for name in node.input}
        wanted = [read_as.get(name, name) for name in (network.output, *observed)]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
        graph = helper.make_graph(
            nodes,
            "blame",
            [helper.make_tensor_value_info(network.input, kind, network.shape)],
            [helper.make_tensor_value_info(name, kind, None) for name in dict.fromkeys(wanted)],
            [
                self._numpy.from_array(np.ascontiguousarray(array), name)
                for name, array in constants.items()
                if name in used
            ],
        )
        opsets = [helper.make_opsetid("", network.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        options = self._engine.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Pairs stay what they are: fused, they would compute in integers.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = self._engine.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            # It would put the scale back into the kernel, and so end the exact sums.
            disabled_optimizers=["ConvMulFusion"],
        )
        return session, wanted

    def _convolve_integers(self, step: Step, nodes: list[Any], constants: dict[str, Any]) -> None:
        """Add up integers, which is exact in float32 up to 2^24, and scale the sum, as engines do."""
        network, make = self.network, self._helper.make_node
        source, kernel, *bias = step.inputs
        scales = network.scales[kernel].astype(np.float32)
        unit = np.float32(network.points[source].scale) * scales
        constants[f"{kernel}:counts"] = np.rint(constants[kernel] / scales.reshape(-1, 1, 1, 1))
        constants[f"{kernel}:unit"] = unit.reshape(1, -1, 1, 1)
        inputs = [f"{source}:counts", f"{kernel}:counts"]
        if bias:
            inputs.append(f"{bias[0]}:counts")
            constants[inputs[2]] = constants[bias[0]] / unit
        nodes += [
            make(step.op, inputs, [f"{step.output}:sum"], **step.attributes),
            make("Mul", [f"{step.output}:sum", f"{kernel}:unit"], [step.output]),
        ]

    def _round(self, tensor: str, nodes: list[Any], constants: dict[str, Any]) -> str:
        storage, make = self.network.points[tensor], self._helper.make_node
        scale, zero, low, high, one = (f"{tensor}:{part}" for part in ("scale", "zero", "low", "high", "one"))
        constants[scale] = np.array(storage.scale, np.float32)
        counts = f"{tensor}:counts"
        if (dtype := _BYTES.get((storage.low, storage.high))) is not None:
            constants[zero], constants[one] = np.array(storage.zero_point, dtype), np.ones((), np.float32)
            nodes += [
                make("QuantizeLinear", [tensor, scale, zero], [f"{tensor}:stored"]),
                make("DequantizeLinear", [f"{tensor}:stored", one, zero], [counts]),
            ]
        else:
            constants[low], constants[high] = (np.array(limit, np.float32) for limit in storage.limits)
            nodes += [
                make("Div", [tensor, scale], [f"{tensor}:ratio"]),
                make("Round", [f"{tensor}:ratio"], [f"{tensor}:rounded"]),
                make("Clip", [f"{tensor}:rounded", low, high], [counts]),
            ]
        nodes.append(make("Mul", [counts, scale], [f"{tensor}:real"]))
        return f"{tensor}:real"


class Model:
    """One way to run a network."""

    def __init__(self, session: tuple[Any, list[str]], entry: str) -> None:
        (self._session, self._names), self._entry = session, entry

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """The output (1, classes, H, W), then the observed tensors, for an input tensor.

        Raises:
            UnsupportedError: onnxruntime cannot run the network.
        """
        try:
            return tuple(self._session.run(self._names, {self._entry: x}))
        except Exception as error:  # onnxruntime has classes of its own
            raise UnsupportedError(f"onnxruntime cannot simulate this graph: {one_line(error)}") from error
