"""The common form of a network whose cost is counted, whatever its file's format.

A reader lists an engine-neutral step for every operator and the values between them; `simplify`
then does what every engine does when it loads a file: constants are computed once, biases and
activations go into the operator before them, and quantized values are stored as integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Final, Literal

from nanonet_edge.cost import peak_alive
from nanonet_edge.devices.files import printable
from nanonet_edge.errors import InputError

#: What an operator is to an engine's kernels. "conv" is a dense convolution wider than 1x1,
#: "pointwise" any other matrix product, "move" everything that is bound by the data it touches.
Kind = Literal["conv", "pointwise", "depthwise", "move"]
#: Kinds that `simplify` removes or turns into "move": a quantize or dequantize operator, an
#: elementwise function of one value, the addition of a constant, and what only renames a value.
Passing = Literal["quantize", "activation", "bias", "rename"]

DTYPE_BYTES: Final[Mapping[str, int]] = {
    "float64": 8, "int64": 8, "uint64": 8,
    "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
    "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
WEIGHTED: Final = ("conv", "pointwise", "depthwise")
#: Dimensions beyond this many, or sizes beyond it, describe no network.
MAX_RANK: Final = 16
MAX_ELEMENTS: Final = 1 << 40
#: No element is stored in more bytes than a float64 takes.
_MAX_STORED: Final = MAX_ELEMENTS * 8


@dataclass(frozen=True)
class Value:
    """A tensor: `stored` is the size in bytes of its data in the file, None unless it is a constant."""

    shape: tuple[int, ...]
    dtype: str
    stored: int | None = None

    @property
    def nbytes(self) -> int:
        """Size in memory; a type that is not known counts one byte an element."""
        return prod(self.shape) * DTYPE_BYTES.get(self.dtype, 1)


@dataclass(frozen=True)
class Step:
    """One operator: its place in the file, `op` as the format names it, keys of what it reads and writes."""

    index: int
    name: str
    op: str
    kind: Kind | Passing
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    macs: int = 0


@dataclass(frozen=True)
class Network:
    """Steps in the order of execution. `inputs` and `outputs` are the keys of the graph's own values."""

    path: Path
    format: str
    steps: tuple[Step, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def weight_bytes(self) -> int:
        """Stored bytes of all constants that the steps read; what several share counts once."""
        read = {key for step in self.steps for key in step.reads}
        return sum(self.values[key].stored or 0 for key in read)

    def peak_activations(self) -> int:
        """Most bytes of activations alive at once, the graph's inputs included."""
        sizes = {key: value.nbytes for key, value in self.values.items() if value.stored is None}
        return peak_alive([(step.reads, step.writes) for step in self.steps], sizes)[0]


def checked(value: Value, path: Path, name: str) -> Value:
    """The value, if its shape can be one.

    Raises:
        InputError: a size is not known before it runs, or no memory could hold it.
    """
    name = printable(name)
    if len(value.shape) > MAX_RANK or any(size < 0 for size in value.shape):
        raise InputError(f"{path}: tensor '{name}': expected sizes that are known, found {list(value.shape)}")
    if prod(value.shape) > MAX_ELEMENTS:
        raise InputError(f"{path}: tensor '{name}': expected a size that fits a memory, found {value.shape}")
    if value.stored is not None and not 0 <= value.stored <= _MAX_STORED:
        raise InputError(f"{path}: tensor '{name}': expected the size of what is stored, found no such size")
    return value


def simplify(network: Network) -> Network:
    """The network as an engine runs it: see the module's docstring."""
    steps, values = _fold_constants(network.steps, dict(network.values))
    steps = _rename(steps, network)
    steps = _store_quantized(steps, values, network)
    steps = _fuse(steps, values, network.outputs)
    return replace(network, steps=tuple(steps), values=values)


def _fold_constants(steps: Sequence[Step], values: dict[str, Value]) -> tuple[list[Step], dict[str, Value]]:
    """Drop what depends on constants alone; its result stays as large as what is stored for it."""
    kept = []
    for step in steps:
        if all(values[key].stored is not None for key in step.reads):
            stored = sum(values[key].stored or 0 for key in dict.fromkeys(step.reads))
            for key in step.writes:
                values[key] = replace(values[key], stored=stored)
        else:
            kept.append(step)
    return kept, values


def _rename(steps: Sequence[Step], network: Network) -> list[Step]:
    """Drop what passes its first input on as it is."""
    alias: dict[str, str] = {}
    kept = []
    for step in steps:
        reads = tuple(alias.get(key, key) for key in step.reads)
        if step.kind == "rename" and not set(step.writes) & set(network.outputs):
            alias.update(dict.fromkeys(step.writes, reads[0]))
        else:
            kept.append(replace(step, reads=reads))
    return kept


def _store_quantized(steps: Sequence[Step], values: Mapping[str, Value], network: Network) -> list[Step]:
    """Let producers write, and consumers read, the integers that lie between quantize operators.

    A quantize operator on the graph's input and a dequantize operator before its output remain:
    they are work. So does one whose real value somebody else needs.
    """
    readers = Counter(key for step in steps for key in dict.fromkeys(step.reads))
    quantizers = Counter(step.reads[0] for step in steps if step.kind == "quantize")
    fixed = {*network.inputs, *network.outputs}
    reads_as: dict[str, str] = {}
    writes_as: dict[str, str] = {}
    kept = []
    for step in steps:
        reads = tuple(reads_as.get(key, key) for key in step.reads)
        if step.kind != "quantize" or set(step.writes) & fixed:
            kept.append(replace(step, reads=reads))
            continue
        source, target = reads[0], step.writes[0]
        if _is_integer(values[source]):  # a dequantize operator, or one integer for another
            reads_as[target] = source
        elif source in fixed or quantizers[step.reads[0]] < readers[step.reads[0]]:
            kept.append(replace(step, reads=reads))
        else:
            # Several quantize operators on one value agree on a scale: the first stands for all.
            reads_as[target] = writes_as.setdefault(source, target)
    return [
        replace(
            step,
            reads=tuple(reads_as.get(key, key) for key in step.reads),
            writes=tuple(writes_as.get(key, key) for key in step.writes),
        )
        for step in kept
    ]


def _is_integer(value: Value) -> bool:
    return value.dtype in ("int8", "uint8", "int16", "uint16", "int32")


def _fuse(steps: Sequence[Step], values: Mapping[str, Value], outputs: Collection[str]) -> list[Step]:
    """Put activations, and biases of convolutions, into the step that computes their input."""
    readers = Counter(key for step in steps for key in dict.fromkeys(step.reads))
    kept: list[Step] = []
    writer: dict[str, int] = {}
    for step in steps:
        computed = [key for key in step.reads if values[key].stored is None]
        before = writer.get(computed[0]) if len(computed) == 1 else None
        takes = before is not None and readers[computed[0]] == 1 and computed[0] not in outputs
        if takes and before is not None and _fuses(step, kept[before]):
            constants = tuple(key for key in step.reads if key not in computed)
            host = kept[before]
            kept[before] = replace(host, reads=host.reads + constants, writes=step.writes)
            writer[step.writes[0]] = before
            continue
        kind = step.kind if step.kind in WEIGHTED else "move"
        for key in step.writes:
            writer[key] = len(kept)
        kept.append(replace(step, kind=kind))
    return kept


def _fuses(step: Step, host: Step) -> bool:
    if step.kind == "bias":
        return host.kind in WEIGHTED
    # Engines fuse clamps into sums, too.
    return step.kind == "activation" and (host.kind in WEIGHTED or host.op.lower() == "add")
