"""Draw a published network layer by layer, and count what it costs. No file of it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Final, NamedTuple

from nanonet_edge.benchmarks.prediction.costs import Arithmetic, NetworkCost, OperatorCost
from nanonet_edge.benchmarks.prediction.steps import Kind

#: Bytes of an activation or a weight, and of a bias.
ELEMENT_BYTES: Final[dict[Arithmetic, int]] = {"fp32": 4, "fp16": 2, "int8": 1, "int16": 2}
_BIAS_BYTES: Final[dict[Arithmetic, int]] = {"fp32": 4, "fp16": 2, "int8": 4, "int16": 8}


class Feature(NamedTuple):
    """A feature map."""

    height: int
    width: int
    channels: int

    @property
    def elements(self) -> int:
        """How many values it has."""
        return self.height * self.width * self.channels


class _Layer(NamedTuple):
    op: str
    kind: Kind
    macs: int
    read: int
    written: int
    weights: int
    biases: int


@dataclass
class Drawing:
    """A network in the making: every method adds one operator and gives the feature map it puts out.

    Batch norms are folded and activations fused, as engines have it, except where an activation is
    added by itself (`move`). Padding keeps the size over the stride, rounded up.
    """

    image: Feature
    layers: list[_Layer] = field(default_factory=list)

    def conv(self, x: Feature, channels: int, size: int = 1, stride: int = 1) -> Feature:
        """A dense convolution."""
        y = Feature(ceil(x.height / stride), ceil(x.width / stride), channels)
        weights = size * size * x.channels * channels
        kind: Kind = "pointwise" if size == 1 else "conv"
        return self._add("conv", kind, y.height * y.width * weights, x.elements, y, weights, channels)

    def depthwise(self, x: Feature, size: int = 3, stride: int = 1) -> Feature:
        """A depthwise convolution."""
        y = Feature(ceil(x.height / stride), ceil(x.width / stride), x.channels)
        return self._add(
            "depthwise",
            "depthwise",
            y.elements * size * size,
            x.elements,
            y,
            size * size * x.channels,
            x.channels,
        )

    def separable(self, x: Feature, channels: int, size: int = 3, stride: int = 1) -> Feature:
        """A depthwise convolution and a 1x1 convolution."""
        return self.conv(self.depthwise(x, size, stride), channels)

    def transposed(self, x: Feature, channels: int, size: int, stride: int = 2) -> Feature:
        """A transposed convolution."""
        y = Feature(x.height * stride, x.width * stride, channels)
        weights = size * size * x.channels * channels
        return self._add("transposed", "conv", x.height * x.width * weights, x.elements, y, weights, channels)

    def move(self, op: str, inputs: list[Feature], y: Feature) -> Feature:
        """An operator without weighted sums: an addition, a resize, a pooling, a concatenation."""
        return self._add(op, "move", 0, sum(x.elements for x in inputs), y, 0, 0)

    def add(self, x: Feature, other: Feature) -> Feature:
        """An elementwise sum."""
        return self.move("add", [x, other], x)

    def concat(self, *inputs: Feature) -> Feature:
        """A concatenation of channels."""
        channels = sum(x.channels for x in inputs)
        return self.move("concat", list(inputs), Feature(inputs[0].height, inputs[0].width, channels))

    def resize(self, x: Feature, height: int, width: int) -> Feature:
        """Interpolation to another size."""
        return self.move("resize", [x], Feature(height, width, x.channels))

    def pool(self, x: Feature, stride: int) -> Feature:
        """Pooling."""
        return self.move("pool", [x], Feature(ceil(x.height / stride), ceil(x.width / stride), x.channels))

    def global_pool(self, x: Feature) -> Feature:
        """The mean over all positions."""
        return self.move("mean", [x], Feature(1, 1, x.channels))

    def hard_swish(self, x: Feature) -> Feature:
        """An activation that engines do not fuse."""
        return self.move("hard_swish", [x], x)

    def squeeze_excite(self, x: Feature, reduced: int) -> Feature:
        """Squeeze-and-excitation with a hard sigmoid."""
        gate = self.conv(self.conv(self.global_pool(x), reduced), x.channels)
        return self.move("mul", [x, self.move("hard_sigmoid", [gate], gate)], x)

    def bottleneck(
        self, x: Feature, expansion: int, channels: int, size: int = 3, stride: int = 1
    ) -> Feature:
        """MobileNetV2's inverted residual block."""
        y = self.conv(x, x.channels * expansion) if expansion != 1 else x
        y = self.conv(self.depthwise(y, size, stride), channels)
        return self.add(y, x) if stride == 1 and x.channels == channels else y

    def cost(self, arithmetic: Arithmetic) -> NetworkCost:
        """What it costs with everything stored and computed so."""
        element, bias = ELEMENT_BYTES[arithmetic], _BIAS_BYTES[arithmetic]
        operators = tuple(
            OperatorCost(
                index=index,
                name=f"{layer.op}_{index}",
                op=layer.op,
                kind=layer.kind,
                arithmetic=arithmetic,
                macs=layer.macs,
                input_bytes=layer.read * element,
                output_bytes=layer.written * element,
                weight_bytes=layer.weights * element + layer.biases * bias,
            )
            for index, layer in enumerate(self.layers)
        )
        largest = max(operator.input_bytes + operator.output_bytes for operator in operators)
        return NetworkCost(
            format="drawn",
            arithmetic=arithmetic,
            operators=operators,
            weight_bytes=sum(operator.weight_bytes for operator in operators),
            peak_activation_bytes=largest,
            input_bytes=self.image.elements * element,
            output_bytes=self.layers[-1].written * element,
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases, batch norms folded."""
        return sum(layer.weights + layer.biases for layer in self.layers)

    def _add(
        self, op: str, kind: Kind, macs: int, read: int, y: Feature, weights: int, biases: int
    ) -> Feature:
        self.layers.append(_Layer(op, kind, macs, read, y.elements, weights, biases))
        return y
