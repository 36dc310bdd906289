"""Checkpoints that do not load: each fault its own line that names the file, and nothing worse."""

from __future__ import annotations

import functools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.errors import CheckpointError
from nanonet_edge.network import build_network
from nanonet_edge.variants import VARIANTS, Topology
from tests.nanonet_edge.checkpoints import write_keras2
from tests.nanonet_edge.graphs import nanonet

Spoil = Callable[[h5py.File, Path], None]

#: A batch norm and a convolution of each layout.
NORM, CONV = "layers/batch_normalization_2/vars", "layers/conv2d_3/vars"
OLD_CONV = "model_weights/conv2d_18"


def refusal(path: Path) -> str:
    """The message that loading `path` ends with: one line, starting with the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, size=32)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@functools.cache
def file_bytes(layout: str, folder: Path) -> bytes:
    """A whole checkpoint in one of three layouts."""
    path = folder / "whole"
    if layout == "legacy":
        write_keras2(path, nanonet())
    else:
        save_checkpoint(nanonet(), path)
        if layout == "keras":
            data = path.read_bytes()
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("config.json", "{}")
                archive.writestr("model.weights.h5", data)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


# Not a checkpoint at all ----------------------------------------------------------------------


def test_a_path_with_nothing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.h5") == "expected a checkpoint file, found nothing"


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "expected a checkpoint file, found a folder"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert refusal(tmp_path / "x") == "expected a checkpoint file, found an empty one"


@pytest.mark.parametrize(
    "data", [b"not a checkpoint\n" * 100, b"\0" * 4096, b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"]
)
def test_another_kind_of_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert "expected a Keras checkpoint (.h5, .weights.h5 or .keras)" in refusal(tmp_path / "x")


def test_an_archive_without_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert refusal(tmp_path / "x.keras") == "expected model.weights.h5 in the archive, found none"


def test_an_archive_that_explodes(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("model.weights.h5", "w") as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    assert (tmp_path / "x.keras").stat().st_size < 4 << 20
    assert refusal(tmp_path / "x.keras") == "expected at most 268435456 bytes of weights, found 269484032"


def test_hdf5_of_something_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["measurements"] = np.arange(10.0)
    assert "expected the layout of a Keras checkpoint, found 'measurements'" in refusal(tmp_path / "x.h5")


def test_hdf5_of_nothing(tmp_path: Path) -> None:
    h5py.File(tmp_path / "x.h5", "w").close()
    assert "found nothing at its root" in refusal(tmp_path / "x.h5")


def test_a_network_without_convolutions(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layers/dense/vars/0"] = np.zeros((4, 4), np.float32)
    assert refusal(tmp_path / "x.h5") == "expected a NanoNet, found a file without convolutions"


@pytest.mark.parametrize("alpha", ["0.35", "0.5"])
def test_another_network(test_data: Path, alpha: str) -> None:
    message = refusal(
        test_data / "weights" / f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5"
    )
    assert message.startswith("holds no known network: nearest is NanoNet-")


# One fault in an otherwise whole file ---------------------------------------------------------


def put(name: str, value: object, instead_of: str = "") -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        del file[instead_of or name]
        file[name] = value

    return spoil


def add(name: str, value: object) -> Spoil:
    return lambda file, _: file.__setitem__(name, value)


def drop(name: str) -> Spoil:
    return lambda file, _: file.__delitem__(name)


def poison(name: str, value: float) -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        file[name][(0,) * file[name].ndim] = value

    return spoil


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(64))
    del file[f"{NORM}/0"]
    file.create_dataset(f"{NORM}/0", (16,), "f4", external=[(folder / "secret", 0, 64)])


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.zeros(16, np.float32)
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "secret", (16,))
    del file[f"{NORM}/0"]
    file.create_virtual_dataset(f"{NORM}/0", layout)


def huge(file: h5py.File, _: Path) -> None:
    del file[f"{CONV}/0"]
    file.create_dataset(f"{CONV}/0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def many_large(file: h5py.File, _: Path) -> None:
    for index in range(40, 45):
        file.create_dataset(f"layers/dense_{index}/vars/0", (4096, 4096), "f4", chunks=(1024, 1024))


OUTWARD = h5py.ExternalLink("other.h5", "/x")
LINK = "is a link, which a checkpoint does not need: refused"
OUTSIDE = f"array '{NORM}/0' is stored outside the file: refused"
ABSENT = f"expected array '{NORM}/0', found none"

NOT_FINITE = "expected finite values, found"
THREE = "expected a convolution, batch norm or dense layer, found 0 (8,), 1 (8,), 2 (8,)"
HEAD = "should be 'head' with kernel (1, 1, 16, 1), bias (1,) but has kernel (1, 1, 16, 1)"
TOO_LARGE = "expected at most 268435456 bytes in all, found more"

FAULTS: dict[str, tuple[Spoil, str]] = {
    "layer missing": (drop("layers/dense_7"), "layer for 'decoder_3_excite2' (kernel (1, 16)) is missing"),
    "layer in excess": (
        add("layers/dense_8/vars/0", np.ones((1, 1))),
        "dense layer 'dense_8' is one too many",
    ),
    "array missing": (drop(f"{NORM}/3"), THREE),
    "array in excess": (add("layers/dense_7/vars/1", np.ones((1, 1))), "expected a convolution"),
    "bias missing": (drop("layers/conv2d_28/vars/1"), HEAD),
    "other shape": (put(f"{CONV}/0", np.zeros((1, 1, 9, 9), np.float32)), "but has kernel (1, 1, 9, 9)"),
    "NaN": (poison(f"{CONV}/0", np.nan), f"array '{CONV}/0': {NOT_FINITE} 1 NaN or infinite"),
    "infinite": (poison(f"{NORM}/1", -np.inf), f"array '{NORM}/1': {NOT_FINITE} 1 NaN or infinite"),
    "too large for float32": (put(f"{NORM}/1", np.full(8, 1e300)), f"{NOT_FINITE} 8 NaN or infinite"),
    "negative variance": (poison(f"{NORM}/3", -0.1), "expected variances of 0 or more, found less"),
    "integers": (put(f"{NORM}/0", np.ones(8, np.int32)), "expected floating point, found int32"),
    "complex": (put(f"{NORM}/0", np.ones(8, np.complex64)), "expected floating point, found complex64"),
    "text": (put(f"{NORM}/0", "eight"), ABSENT),
    "a number": (put(f"{NORM}/0", 1.0), ABSENT),
    "no values": (put(f"{NORM}/0", np.zeros(0, np.float32)), ABSENT),
    "null dataspace": (put(f"{NORM}/0", h5py.Empty("f4")), ABSENT),
    "a group": (put(f"{NORM}/0/0", 1.0, instead_of=f"{NORM}/0"), ABSENT),
    "soft link": (put(f"{NORM}/0", h5py.SoftLink(f"/{NORM}/1")), LINK),
    "dangling soft link": (put(f"{NORM}/0", h5py.SoftLink("/nowhere")), LINK),
    "external link to an array": (put(f"{NORM}/0", OUTWARD), LINK),
    "external link to a layer": (put("layers/dense", OUTWARD), LINK),
    "external link to all layers": (put("layers", OUTWARD), LINK),
    "external link as the model": (add("model_weights", OUTWARD), LINK),
    "external storage": (external_storage, OUTSIDE),
    "virtual dataset": (virtual, OUTSIDE),
    "absurdly large": (huge, f"array '{CONV}/0': {TOO_LARGE}"),
    "large in all": (many_large, TOO_LARGE),
    "layers is an array": (put("layers", np.zeros(3)), "expected layer 'layers', found none"),
    "a layer is an array": (put("layers/dense", np.zeros(3)), "expected layer 'dense', found none"),
    "unprintable name": (
        add("layers/dense\n\x1b[31m/vars/0", np.zeros(3)),
        "expected printable names, found",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_own_line(folder: Path, tmp_path: Path, fault: str) -> None:
    spoil, expected = FAULTS[fault]
    path = tmp_path / "spoiled.weights.h5"
    path.write_bytes(file_bytes("weights", folder))
    with h5py.File(path, "r+") as file:
        spoil(file, tmp_path)
    assert expected in refusal(path)


def rename(attribute: str, value: object) -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        file[OLD_CONV if attribute == "weight_names" else "model_weights"].attrs[attribute] = value

    return spoil


OLD_FAULTS: dict[str, tuple[Spoil, str]] = {
    "layer gone": (drop(OLD_CONV), "expected layer 'conv2d_18', found none"),
    "array gone": (drop(f"{OLD_CONV}/conv2d_18/kernel:0"), "expected array 'conv2d_18/kernel:0', found none"),
    "layer not listed": (rename("layer_names", [b"conv2d_18"]), "holds no known network: nearest is"),
    "names are a number": (rename("layer_names", 3), "found a damaged or other file"),
    "names are no text": (rename("layer_names", [b"\xff\xfe"]), "expected printable names, found"),
    "name is empty": (rename("layer_names", [b"x", b""]), "found none"),
    "path from the root": (
        rename("weight_names", [b"/elsewhere"]),
        "expected array '/elsewhere', found none",
    ),
    "path with a detour": (rename("weight_names", [b"conv2d_18//kernel:0"]), "found none"),
    "model is an array": (put("model_weights", np.zeros(3)), "expected layer 'model_weights', found none"),
}


@pytest.mark.parametrize("fault", OLD_FAULTS)
def test_a_fault_in_a_legacy_file_has_its_own_line(folder: Path, tmp_path: Path, fault: str) -> None:
    spoil, expected = OLD_FAULTS[fault]
    path = tmp_path / "spoiled.h5"
    path.write_bytes(file_bytes("legacy", folder))
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
        spoil(file, tmp_path)
    assert expected in refusal(path)


def test_a_rewritten_network_is_no_checkpoint(tmp_path: Path) -> None:
    from nanonet_edge.passes import rewrite

    save_checkpoint(rewrite(nanonet()).graph, tmp_path / "x")
    assert "holds no known network: nearest is NanoNet-" in refusal(tmp_path / "x")


def test_a_topology_of_its_own_is_no_nanonet(tmp_path: Path) -> None:
    wide = VARIANTS["c"].__class__("w", 0.35, 64, (32, 24, 16), 0, 0)
    save_checkpoint(build_network(wide, Topology.DESCRIBED), tmp_path / "x")
    assert refusal(tmp_path / "x") == (
        "holds no known network: nearest is NanoNet-C (described), where layer 'conv2d_13' should be "
        "'bridge_conv1' with kernel (1, 1, 96, 12), bias (12,) but has kernel (1, 1, 96, 16), bias (16,)"
    )


# Damage ---------------------------------------------------------------------------------------

fuzzing = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def load_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    message = ""
    try:
        load_checkpoint(path, size=32)
    except CheckpointError as error:
        message = str(error)
    assert not message or re.fullmatch(rf"{re.escape(str(path))}: .+", message)


@pytest.mark.parametrize("layout", ["legacy", "weights", "keras"])
@given(share=st.floats(0, 1, exclude_max=True))
@fuzzing
def test_a_truncated_file_is_refused(folder: Path, layout: str, share: float) -> None:
    data = file_bytes(layout, folder)
    (folder / "cut").write_bytes(data[: int(share * len(data))])
    refusal(folder / "cut")


@pytest.mark.parametrize("layout", ["legacy", "weights", "keras"])
@given(flips=st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 255)), min_size=1, max_size=20))
@fuzzing
def test_flipped_bytes_load_or_are_refused(folder: Path, layout: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray(file_bytes(layout, folder))
    for where, bits in flips:
        # Cubed: the structure lies at both ends of the file, the weights in its middle.
        data[int(where**3 * (len(data) - 1))] ^= bits
    load_or_refuse(folder / "flipped", bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["legacy", "weights", "keras"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(fuzzing, max_examples=60)
def test_noise_loads_or_is_refused(folder: Path, layout: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(file_bytes(layout, folder))
    for position in random.integers(0, len(data), random.integers(1, 64)):
        data[position] = random.integers(0, 256)
    load_or_refuse(folder / "noisy", bytes(data))


def test_a_file_that_crashes_the_hdf5_library_is_refused(folder: Path) -> None:
    """A link whose name is shorter than it says: HDF5 1.14 reads on until SIGSEGV."""
    data = file_bytes("weights", folder)
    assert data.count(b"depthwise_conv2d_4") == 1
    (folder / "crash").write_bytes(data.replace(b"depthwise_conv2d_4", b"depthwise\0conv2d_4"))
    assert "found a damaged" in refusal(folder / "crash")
