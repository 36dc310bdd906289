"""Arrays of a Keras checkpoint, read without executing or deserialising anything.

Four layouts hold the same layers: a full model or weights in legacy HDF5 (Keras 2 under
TensorFlow 2.x, or Keras 3), `.weights.h5` (Keras 3), and `.keras`, a zip with such a
`.weights.h5` inside. Configurations are never read. The file may come from a stranger, so
links that leave it and arrays of absurd size are refused.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import CheckpointError

if TYPE_CHECKING:
    import h5py

#: NanoNet-A, the largest, is under 1.3 MB; a whole U-Net checkpoint with optimizer under 128 MB.
_MAX_BYTES = 256 << 20
_BATCH_NORM = ("gamma", "beta", "mean", "variance")
_KERAS_NAMES = {"depthwise_kernel": "kernel", "moving_mean": "mean", "moving_variance": "variance"}


@dataclass(frozen=True)
class Layer:
    """The arrays of one layer: `op` as in the intermediate form, `label` as the file calls it."""

    label: str
    op: str
    weights: dict[str, npt.NDArray[np.float32]]


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
    try:
        with h5py.File(_open_container(path), "r") as file:
            return [_layer(path, label, arrays) for label, arrays in _walk(path, file) if arrays]
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: expected a Keras checkpoint (.h5, .weights.h5 or .keras), found a damaged or other file"
            f" ({reason})"
        ) from None


def _open_container(path: Path) -> Path | io.BytesIO:
    if not zipfile.is_zipfile(path):
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("model.weights.h5")
            if member.file_size > _MAX_BYTES:
                raise CheckpointError(f"{path}: expected at most {_MAX_BYTES} bytes of weights, found more")
            return io.BytesIO(archive.read(member))
    except KeyError:
        raise CheckpointError(f"{path}: expected model.weights.h5 in the archive, found none") from None
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{path}: expected a .keras archive, found a damaged one ({error})") from None


def _walk(path: Path, file: h5py.File) -> Iterator[tuple[str, dict[str, npt.NDArray[np.float32]]]]:
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs:
        yield from _walk_legacy(path, root)
    elif "layers" in file:
        layers = _group(path, file, "layers")
        for name in sorted(layers, key=_natural):
            yield name, _read_vars(path, _group(path, layers, name), f"layers/{name}")
    else:
        found = ", ".join(list(file)[:5]) or "nothing"
        raise CheckpointError(f"{path}: expected the layout of a Keras checkpoint, found {found} at its root")


def _walk_legacy(path: Path, root: h5py.Group) -> Iterator[tuple[str, dict[str, npt.NDArray[np.float32]]]]:
    for name in map(_text, _chunked_attribute(root, "layer_names")):
        group = _group(path, root, name)
        arrays = {}
        for weight in map(_text, _chunked_attribute(group, "weight_names")):
            short = weight.rsplit("/", 1)[-1].partition(":")[0]
            arrays[_KERAS_NAMES.get(short, short)] = _read(path, group, weight)
        yield name, arrays


def _chunked_attribute(group: h5py.Group, name: str) -> list[Any]:
    """An attribute that Keras splits into name0, name1, … when it exceeds HDF5's 64 KiB."""
    if name in group.attrs:
        return list(group.attrs[name])
    values: list[Any] = []
    while f"{name}{len(values)}" in group.attrs:
        values.append(group.attrs[f"{name}{len(values)}"])
    return [item for part in values for item in part]


def _read_vars(path: Path, group: h5py.Group, label: str) -> dict[str, npt.NDArray[np.float32]]:
    if "vars" not in group:
        return {}
    members = _group(path, group, "vars")
    return {name: _read(path, members, name, label) for name in sorted(members, key=_natural)}


def _group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    import h5py

    _refuse_links(path, parent, name)
    item = parent.get(name)
    if not isinstance(item, h5py.Group):
        raise CheckpointError(f"{path}: expected layer '{name}', found none")
    return item


def _refuse_links(path: Path, parent: h5py.Group, name: str) -> None:
    import h5py

    parts = name.strip("/").split("/")
    for index, part in enumerate(parts):
        if not isinstance(parent, h5py.Group) or part not in parent.keys():  # noqa: SIM118 (resolves no link)
            return
        if not isinstance(parent.get(part, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path}: '{name}' is a link, which a checkpoint does not need: refused")
        if index < len(parts) - 1:
            parent = parent[part]


def _read(path: Path, group: h5py.Group, name: str, label: str = "") -> npt.NDArray[np.float32]:
    import h5py

    _refuse_links(path, group, name)
    data = group.get(name)
    shown = f"{label}/{name}" if label else name
    if not isinstance(data, h5py.Dataset):
        raise CheckpointError(f"{path}: expected array '{shown}', found none")
    if data.external or data.is_virtual:
        raise CheckpointError(f"{path}: array '{shown}' is stored outside the file: refused")
    if data.dtype.kind != "f":
        raise CheckpointError(f"{path}: array '{shown}': expected floating point, found {data.dtype}")
    if data.nbytes > _MAX_BYTES:
        raise CheckpointError(
            f"{path}: array '{shown}': expected at most {_MAX_BYTES} bytes, found {data.nbytes}"
        )
    array = np.asarray(data[()], np.float32)
    if not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        raise CheckpointError(
            f"{path}: array '{shown}': expected finite values, found {count} NaN or infinite"
        )
    return array


def _layer(path: Path, label: str, arrays: dict[str, npt.NDArray[np.float32]]) -> Layer:
    """Tell what a layer is from its arrays alone."""
    ranks = [array.ndim for array in arrays.values()]
    numbered = all(name.isdigit() for name in arrays)
    if ranks == [1, 1, 1, 1]:
        named = dict(zip(_BATCH_NORM, arrays.values(), strict=True)) if numbered else arrays
        if named.keys() == set(_BATCH_NORM):
            return Layer(label, "batch_norm", {name: named[name] for name in _BATCH_NORM})
    elif ranks[0] in (2, 4) and ranks[1:] in ([], [1]):
        names = ("kernel", "bias")[: len(arrays)]
        kernel = next(iter(arrays.values()))
        op = "dense" if kernel.ndim == 2 else "conv2d"
        if kernel.ndim == 4 and kernel.shape[3] == 1 and kernel.shape[:2] != (1, 1):
            op = "depthwise_conv2d"
        return Layer(label, op, dict(zip(names, arrays.values(), strict=True)))
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    raise CheckpointError(
        f"{path}: layer '{label}': expected a convolution, batch norm or dense layer, found {shapes}"
    )


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    return tuple((text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)[:-1])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def write_layers(path: Path | io.BytesIO, layers: list[Layer], attributes: dict[str, str]) -> None:
    """Write layers as Keras 3 writes `.weights.h5`, so that Keras can load the file as well."""
    import h5py

    counts: dict[str, int] = {}
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.update(attributes)
        for layer in layers:
            index = counts.setdefault(layer.op, 0)
            counts[layer.op] += 1
            kind = "batch_normalization" if layer.op == "batch_norm" else layer.op
            members = file.create_group(f"layers/{kind}_{index}" if index else f"layers/{kind}").create_group(
                "vars"
            )
            members.attrs["name"] = layer.label
            for number, array in enumerate(layer.weights.values()):
                members.create_dataset(str(number), data=array)
