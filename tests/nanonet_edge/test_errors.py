"""The exception tree, its exit codes, and its drawing."""

from __future__ import annotations

import re

import pytest

from nanonet_edge import errors


def subclasses(kind: type[errors.NanonetEdgeError]) -> list[type[errors.NanonetEdgeError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


EVERY = [kind for kind in subclasses(errors.NanonetEdgeError) if kind.__module__ == errors.__name__]


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^    ([ │├└─]*)(\w+Error|\w+Failure)(?: +(\d) )?", errors.__doc__, re.MULTILINE)
    assert {name for _, name, _ in drawn} == {kind.__name__ for kind in EVERY}
    parents: dict[int, str] = {}
    for branch, name, code in drawn:
        kind, depth = getattr(errors, name), len(branch) // 4
        parents[depth] = name
        if depth:
            assert kind.__base__.__name__ == parents[depth - 1]
            assert kind.exit_code == int(code), name


def test_exit_codes_are_those_of_the_command_line() -> None:
    codes = (errors.EXIT_OK, errors.EXIT_VERDICT, errors.EXIT_USAGE, errors.EXIT_INPUT, errors.EXIT_DEVICE)
    assert codes == (0, 1, 2, 3, 4)
    assert {kind.exit_code for kind in EVERY} == {2, 3, 4}


def test_a_missing_extra_says_what_to_type() -> None:
    error = errors.MissingExtraError("onnxruntime", "onnx")
    assert str(error) == "onnxruntime is not installed: pip install 'nanonet-edge[onnx]'"
    assert (error.module, error.extra) == ("onnxruntime", "onnx")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind is not errors.MissingExtraError])
def test_every_other_error_carries_its_message_as_it_is(kind: type[errors.NanonetEdgeError]) -> None:
    assert str(kind("file: expected x, found y")) == "file: expected x, found y"
