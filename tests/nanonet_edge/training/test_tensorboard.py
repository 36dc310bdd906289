"""The log for TensorBoard, read back record by record."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanonet_edge.errors import MissingExtraError
from nanonet_edge.training import EpochRecord, TensorBoardLog


def events(folder: Path) -> Iterator[tuple[str, int, float]]:
    """(name, step, value) of every figure: each record is a length, its checksum, an Event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


def test_every_figure_of_every_epoch_is_logged(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path / "log") as log:
        log.write(EpochRecord(0, 32, 1e-3, 0.9, None, None, 20.0))
        log.write(EpochRecord(1, 64, 1e-4, 0.8, 0.7, 0.6, 10.0))
    found = {(name, step): value for name, step, value in events(tmp_path / "log")}
    expected = {
        ("loss/training", 1): 0.9,
        ("rate", 1): 1e-3,
        ("images_per_second", 1): 20.0,
        ("loss/training", 2): 0.8,
        ("loss/validation", 2): 0.7,
        ("dsc/validation", 2): 0.6,
        ("rate", 2): 1e-4,
        ("images_per_second", 2): 10.0,
    }
    assert found == pytest.approx(expected)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        MissingExtraError, match=r"tensorboardX is not installed.*nanonet-edge\[tensorboard\]"
    ):
        TensorBoardLog(tmp_path)
