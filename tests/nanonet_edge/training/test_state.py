"""Where a run stands, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.errors import InputError
from nanonet_edge.training import EpochRecord
from nanonet_edge.training.state import RunState


def state() -> RunState:
    def arrays(count: int) -> list[np.ndarray]:
        return [np.random.default_rng(i).random((i + 1, 2)).astype(np.float32) for i in range(count)]

    history = [EpochRecord(0, 32, 1e-3, 0.9, None, None, 10.0), EpochRecord(1, 64, 1e-4, 0.8, 0.7, 0.5, 9.5)]
    # More than ten, so that their order is not that of their names.
    return RunState(2, 17, arrays(12), arrays(12), arrays(25), arrays(12), 1, 0.7, 3, 2, 0.1, history)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("state") / "state.npz"
    state().save(path)
    return path.read_bytes()


def test_everything_comes_back(tmp_path: Path) -> None:
    path, before = tmp_path / "state.npz", state()
    before.save(path)
    after = RunState.load(path)
    for name, value in vars(before).items():
        found = getattr(after, name)
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found, value, strict=True))
        else:
            assert found == value, name


def test_a_fresh_state_comes_back(tmp_path: Path) -> None:
    RunState().save(tmp_path / "state.npz")
    assert RunState.load(tmp_path / "state.npz") == RunState()


@given(data=st.data())
def test_a_damaged_file_is_one_line_that_names_it(stored: bytes, data: st.DataObject) -> None:
    import tempfile

    damaged = bytearray(stored)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    else:
        where = data.draw(st.integers(0, len(damaged) - 1))
        damaged[where : where + 64] = data.draw(st.binary(min_size=64, max_size=64))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        path.write_bytes(damaged)
        message = ""
        try:
            RunState.load(path)
        except InputError as error:
            message = str(error)
        # Damage that no checksum of the format covers, in its padding, is allowed to pass.
        expected = f"{path}: expected the state of a training run, found a damaged file ("
        assert not message or (message.startswith(expected) and "\n" not in message)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04"])
def test_what_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"state\.npz: expected the state of a training run"):
        RunState.load(path)


def test_arrays_that_are_no_state_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(InputError, match=r"state\.npz: expected the state of a training run"):
        RunState.load(path)
