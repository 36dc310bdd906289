"""The networks that the paper compares NanoNet with, as graphs of the intermediate form.

Jha et al., "NanoNet", CBMS 2021, Tables II to VI name ResUNet, ResUNet++, U-Net and DoubleU-Net.
Each module says which of its facts come from where. The widths and the order of operations
give the parameter counts of `nanonet_edge.variants.COMPARATORS` exactly.
"""

from __future__ import annotations

from collections.abc import Callable

from nanonet_edge.builder import Fill
from nanonet_edge.comparators.base import ComparatorBuilder
from nanonet_edge.comparators.double_unet import double_unet
from nanonet_edge.comparators.resunet import resunet
from nanonet_edge.comparators.resunet_plus_plus import resunet_plus_plus
from nanonet_edge.comparators.unet import unet
from nanonet_edge.graph import Graph

#: Takes the builder, the input and the number of classes; gives the name of the logits.
Body = Callable[[ComparatorBuilder, str, int], str]

_BODIES: dict[str, Body] = {
    "resunet": resunet,
    "resunet++": resunet_plus_plus,
    "unet": unet,
    "doubleunet": double_unet,
}


def build_comparator(name: str, size: int, classes: int, fill: Fill, *, divisor: int = 1) -> Graph:
    """The unrewritten network, its nodes in the order in which Keras lists a model's layers.

    Args:
        name: a key of `nanonet_edge.variants.COMPARATORS`.
        size: height and width of the input in pixels, a multiple of 32.
        classes: output channels; one ends in a sigmoid, more end in a softmax.
        fill: gives the weights.
        divisor: of all widths inside; more than 1 gives a small network of the same form.
    """
    builder = ComparatorBuilder(fill, divisor)
    image = builder.add("input_image", "input", size=size, channels=3)
    logits = _BODIES[name](builder, image, classes)
    output = builder.add("probability", "sigmoid" if classes == 1 else "softmax", logits)
    return builder.graph(output)
