"""Addresses and files of boards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.remote.boards import Board, board_at, read_boards, split_address
from nanonet_edge.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi5", (None, "pi5", None)),
        ("pi@pi5.local", ("pi", "pi5.local", None)),
        ("ssh://pi@10.0.0.5:2222", ("pi", "10.0.0.5", 2222)),
        ("ssh://[fe80::1]", (None, "fe80::1", None)),
    ],
)
def test_addresses(text: str, expected: tuple[str | None, str, int | None]) -> None:
    assert split_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "a b", "@pi", "pi@", "ssh://", "ssh://pi:x", "a\nb"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="expected user@host") as caught:
        board_at(text)
    assert "\n" not in str(caught.value)


@given(st.text(min_size=1))
def test_a_board_s_file_stays_in_its_folder(name: str) -> None:
    stem = Board.model_construct(host="h", label=name).file_stem
    assert Path(stem).name == stem
    assert "." not in stem


def test_file_of_boards(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    path.write_text(
        '[[board]]\nhost = "pi5"\ndevice = "raspberry-pi-5"\nthreads = 4\n\n'
        '[[board]]\nhost = "nano"\nname = "desk"\npython = "/opt/py/bin/python"\nssh_config = "conf"\n'
    )
    pi5, desk = read_boards(path)
    assert (pi5.name, pi5.device, pi5.threads, pi5.has_own_engine) == ("pi5", "raspberry-pi-5", 4, False)
    assert (desk.name, desk.has_own_engine, desk.ssh_config) == ("desk", True, tmp_path / "conf")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"expected \[\[board\]\] tables, found nothing"),
        ("[board]\nhost='a'", "expected .* tables, found board"),
        ("x = 1\n[[board]]\nhost='a'", "expected .* tables, found board, x"),
        ("[[board]]\nname='a'", "board 1: host: Field required"),
        ("[[board]]\nhost='a'\npassword='b'", "board 1: password: "),
        ("[[board]]\nhost='a'\nroot='/tmp'", "board 1: root: "),
        ("[[board]]\nhost='-oX'", "board 1: .*expected user@host"),
        ("[[board]]\nhost='a'\n[[board]]\nhost='a'", "expected names that differ, found a more than once"),
        ("[[board", "expected TOML"),
        ("\xff", "expected TOML"),
    ],
)
def test_wrong_file_is_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"boards\.toml: {says}"):
        read_boards(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"boards\.toml: expected a file of boards, found nothing"):
        read_boards(tmp_path / "boards.toml")
