"""Which precision a format can have, and why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanonet_edge.errors import UnsupportedError
from nanonet_edge.variants import Format, Precision

_COMMON = (Precision.FP32, Precision.FP16, Precision.STATIC_WI8_AI8)

SUPPORTED: dict[Format, tuple[Precision, ...]] = {
    Format.TFLITE: tuple(Precision),
    Format.ONNX: (*_COMMON, Precision.MIXED),
    Format.OPENVINO: (*_COMMON, Precision.MIXED),
}

#: What the stock converters make of the unrewritten graph.
SUPPORTED_STRAIGHT: dict[Format, tuple[Precision, ...]] = {
    Format.TFLITE: tuple(precision for precision in Precision if precision is not Precision.MIXED),
    Format.ONNX: (Precision.FP32, Precision.STATIC_WI8_AI8),
    Format.OPENVINO: _COMMON,
}


#: Operations without a kernel in the engines of a format at a precision.
_WITHOUT_KERNEL = {
    (Format.TFLITE, Precision.STATIC_WI8_AI16): {"depth_to_space": "DEPTH_TO_SPACE"},
}


def check_operations(ops: Iterable[str], pairs: Iterable[tuple[Format, Precision]], title: str) -> None:
    """Find out before the work that no engine could run a file.

    Args:
        ops: the operations of a rewritten graph.
        pairs: formats and precisions that it is to be written in.
        title: of the network, for the message.

    Raises:
        UnsupportedError: names the operation and the precisions that work.
    """
    present = set(ops)
    for file_format, precision in pairs:
        missing = _WITHOUT_KERNEL.get((file_format, precision), {})
        for op in sorted(present & missing.keys()):
            able = [p for p in SUPPORTED[file_format] if op not in _WITHOUT_KERNEL.get((file_format, p), {})]
            raise UnsupportedError(
                f"{title} cannot be exported as {precision} {file_format}: {missing[op]} has no kernel"
                f" for it; it can be {', '.join(map(str, able))}"
            )


def combinations(
    formats: Sequence[Format], precisions: Iterable[Precision], *, explicit: bool, straight: bool = False
) -> list[tuple[Format, Precision]]:
    """Pairs of format and precision to export, in the formats' order.

    Args:
        formats: wanted.
        precisions: wanted.
        explicit: the formats were named by the user, so each must be able to do all precisions;
            otherwise a format is left out where it cannot.
        straight: of the unrewritten graph.

    Raises:
        UnsupportedError: a named format cannot do a precision, or no format can.
    """
    table = SUPPORTED_STRAIGHT if straight else SUPPORTED
    pairs = []
    for precision in dict.fromkeys(precisions):
        able = [file_format for file_format in formats if precision in table[file_format]]
        if not able or (explicit and len(able) < len(formats)):
            unable = next(file_format for file_format in formats if file_format not in able)
            can = ", ".join(map(str, table[unable]))
            graph = " from the unrewritten graph" if straight else ""
            raise UnsupportedError(f"{unable} cannot be exported as {precision}{graph}: it can be {can}")
        pairs += [(file_format, precision) for file_format in able]
    return sorted(pairs, key=lambda pair: formats.index(pair[0]))
