"""Arrays of a Keras checkpoint, read without executing or deserialising anything.

Four layouts hold the same layers: a full model or weights in legacy HDF5 (Keras 2 under
TensorFlow 2.x, or Keras 3), `.weights.h5` (Keras 3), and `.keras`, a zip with such a
`.weights.h5` inside. Configurations are never read. The file may come from a stranger, so
links that leave it and arrays of absurd size are refused.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import CheckpointError

if TYPE_CHECKING:
    import h5py

#: NanoNet-A is under 1.3 MB; DoubleU-Net, the largest, 112 MiB without an optimizer's state.
_MAX_BYTES = 256 << 20
_BATCH_NORM = ("gamma", "beta", "mean", "variance")
_KERAS_NAMES = {"depthwise_kernel": "kernel", "moving_mean": "mean", "moving_variance": "variance"}

Arrays = dict[str, npt.NDArray[np.float32]]

#: What h5py and zipfile raise for bytes that mean nothing to them.
_DAMAGE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, EOFError,
    struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """The arrays of one layer: `op` as in the intermediate form, `label` as the file calls it."""

    label: str
    op: str
    weights: Arrays


def read_layers(path: Path) -> list[Layer]:
    """Every layer of a checkpoint that has arrays, in the order of the model's layers.

    Raises:
        CheckpointError: not a checkpoint, truncated, or an array that is missing, not finite,
            too large or of a dtype that weights do not have.
    """
    import h5py

    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a checkpoint file, found {'a folder' if path.exists() else 'nothing'}"
        )
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: expected a checkpoint file, found an empty one")
    try:
        with h5py.File(_open_container(path), "r") as file:
            return [_layer(path, label, arrays) for label, arrays in _Reader(path).walk(file) if arrays]
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{path}: expected a Keras checkpoint (.h5, .weights.h5 or .keras), found a damaged or other file"
            f" ({reason})"
        ) from None


def _open_container(path: Path) -> Path | io.BytesIO:
    import h5py

    if h5py.is_hdf5(path) or not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        if "model.weights.h5" not in archive.namelist():
            raise CheckpointError(f"{path}: expected model.weights.h5 in the archive, found none")
        member = archive.getinfo("model.weights.h5")
        if member.file_size > _MAX_BYTES:
            raise CheckpointError(
                f"{path}: expected at most {_MAX_BYTES} bytes of weights, found {member.file_size}"
            )
        return io.BytesIO(archive.read(member))


class _Reader:
    """Finds the arrays of one file, following hard links only, up to a total of `_MAX_BYTES`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0

    def walk(self, file: h5py.File) -> Iterator[tuple[str, Arrays]]:
        """The name and arrays of each layer, whichever layout the file has."""
        # Names are compared in a set: h5py's own `in` would follow a link out of the file.
        root = self.group(file, "model_weights") if "model_weights" in set(file) else file
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            yield from self._walk_legacy(root)
        elif "layers" in set(file):
            layers = self.group(file, "layers")
            for name in sorted(layers, key=_natural):
                yield name, self._vars(self.group(layers, name), name)
        else:
            found = ", ".join(map(ascii, list(file)[:5])) or "nothing"
            raise CheckpointError(
                f"{self.path}: expected the layout of a Keras checkpoint, found {found} at its root"
            )

    def _walk_legacy(self, root: h5py.Group) -> Iterator[tuple[str, Arrays]]:
        for name in _names(root, "layer_names"):
            group = self.group(root, name)
            arrays = {}
            for weight in _names(group, "weight_names"):
                short = weight.rsplit("/", 1)[-1].partition(":")[0]
                arrays[_KERAS_NAMES.get(short, short)] = self.array(group, weight, weight)
            yield name, arrays

    def _vars(self, group: h5py.Group, layer: str) -> Arrays:
        if "vars" not in set(group):
            return {}
        members = self.group(group, "vars")
        return {
            name: self.array(members, name, f"layers/{layer}/vars/{name}")
            for name in sorted(members, key=_natural)
        }

    def group(self, parent: h5py.Group, name: str) -> h5py.Group:
        """The group `name` of `parent`."""
        import h5py

        item = self._child(parent, name)
        if not isinstance(item, h5py.Group):
            raise CheckpointError(f"{self.path}: expected layer '{name}', found none")
        return item

    def array(self, parent: h5py.Group, name: str, label: str) -> npt.NDArray[np.float32]:
        """The values of the dataset `name` of `parent`, which messages call `label`."""
        import h5py

        data = self._child(parent, name)
        if not isinstance(data, h5py.Dataset) or not data.shape or 0 in data.shape:
            raise CheckpointError(f"{self.path}: expected array '{label}', found none")
        if data.external or data.is_virtual:
            raise CheckpointError(f"{self.path}: array '{label}' is stored outside the file: refused")
        if data.dtype.kind != "f":
            raise CheckpointError(
                f"{self.path}: array '{label}': expected floating point, found {data.dtype}"
            )
        self.bytes += data.size * max(data.dtype.itemsize, 4)
        if self.bytes > _MAX_BYTES:
            raise CheckpointError(
                f"{self.path}: array '{label}': expected at most {_MAX_BYTES} bytes in all, found more"
            )
        with np.errstate(over="ignore"):
            array = np.asarray(data[()], np.float32)
        if count := int(array.size - np.isfinite(array).sum()):
            raise CheckpointError(
                f"{self.path}: array '{label}': expected finite values, found {count} NaN or infinite"
            )
        return array

    def _child(self, parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
        """What `name` ("a/b", relative) leads to, or None; every step is checked before it is taken."""
        import h5py

        if not name.isprintable():
            raise CheckpointError(f"{self.path}: expected printable names, found {name!a}")
        item: h5py.Group | h5py.Dataset = parent
        for part in name.split("/"):
            if part in ("", ".") or not isinstance(item, h5py.Group) or part not in set(item):
                return None
            if not isinstance(item.get(part, getlink=True), h5py.HardLink):
                raise CheckpointError(
                    f"{self.path}: '{name}' is a link, which a checkpoint does not need: refused"
                )
            item = item[part]
        return item


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras splits it into name0, name1, … when it exceeds HDF5's 64 KiB."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while (part := f"{attribute}{len(parts)}") in group.attrs:
            parts.append(group.attrs[part])
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _layer(path: Path, label: str, arrays: Arrays) -> Layer:
    """Tell what a layer is from its arrays alone."""
    ranks = [array.ndim for array in arrays.values()]
    numbered = all(name.isdigit() for name in arrays)
    if ranks == [1, 1, 1, 1]:
        named = dict(zip(_BATCH_NORM, arrays.values(), strict=True)) if numbered else arrays
        if named.keys() == set(_BATCH_NORM):
            if (named["variance"] < 0).any():
                raise CheckpointError(f"{path}: layer '{label}': expected variances of 0 or more, found less")
            return Layer(label, "batch_norm", {name: named[name] for name in _BATCH_NORM})
    elif ranks[0] in (2, 4) and ranks[1:] in ([], [1]):
        names = ("kernel", "bias")[: len(arrays)]
        kernel = next(iter(arrays.values()))
        op = "dense" if kernel.ndim == 2 else "conv2d"
        if kernel.ndim == 4 and kernel.shape[3] == 1 and kernel.shape[:2] != (1, 1):
            op = "depthwise_conv2d"
        elif kernel.ndim == 4 and _is_transposed(kernel.shape, arrays):
            op = "conv2d_transpose"
        return Layer(label, op, dict(zip(names, arrays.values(), strict=True)))
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    raise CheckpointError(
        f"{path}: layer '{label}': expected a convolution, batch norm or dense layer, found {shapes}"
    )


def _is_transposed(shape: tuple[int, ...], arrays: Arrays) -> bool:
    """Whether a bias is as long as the kernel's third dimension, which is then the output's."""
    bias = list(arrays.values())[1:]
    return bool(bias) and len(bias[0]) == shape[2] != shape[3]


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    return tuple((text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)[:-1])


def layers_as_hdf5(layers: list[Layer], attributes: dict[str, str]) -> bytes:
    """Layers as Keras 3 writes `.weights.h5`, so that Keras can load the file as well.

    The same layers give the same bytes: no time of creation is stored.
    """
    import h5py

    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    buffer = io.BytesIO()
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, buffer)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    untimed = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    for properties in (creation, untimed):
        properties.set_obj_track_times(False)
    counts: dict[str, int] = {}
    with h5py.File(h5py.h5f.create(b"memory", h5py.h5f.ACC_TRUNC, creation, access)) as file:
        file.attrs.update(attributes)
        h5py.h5g.create(file.id, b"layers", gcpl=untimed)
        for layer in layers:
            index = counts.setdefault(layer.op, 0)
            counts[layer.op] += 1
            kind = "batch_normalization" if layer.op == "batch_norm" else layer.op
            name = f"layers/{kind}_{index}" if index else f"layers/{kind}"
            for group in (name, f"{name}/vars"):
                h5py.h5g.create(file.id, group.encode(), gcpl=untimed)
            members = file[f"{name}/vars"]
            members.attrs["name"] = layer.label
            for number, array in enumerate(layer.weights.values()):
                members.create_dataset(str(number), data=array)
    return buffer.getvalue()
