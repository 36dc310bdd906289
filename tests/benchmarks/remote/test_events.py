"""What a board may say: anything, and only what an agent says is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.benchmarks.remote import events
from nanonet_edge.benchmarks.remote.events import Lines, parse_event
from nanonet_edge.benchmarks.remote.job import make_job
from nanonet_edge.benchmarks.remote.journal import Journal, read_events
from nanonet_edge.benchmarks.remote.outcome import Outcome
from nanonet_edge.bundle import Bundle
from nanonet_edge.cli.bench_tables import print_tables
from nanonet_edge.errors import DeviceError, InputError, NanonetEdgeError
from nanonet_edge.results import BenchSettings

FACTS = {
    "architecture": "aarch64",
    "kernel": "Linux 6.6",
    "python": "3.11.2",
    "usable_cores": 4,
    "logical_cores": 4,
    "load_average": 0.1,
    "memory_bytes": 8 << 30,
}
MACHINE = {"event": "machine", "files": {"proc/cpuinfo": "processor\t: 0\n"}, "facts": FACTS, "missing": []}
SCOPE = {"warmup_runs": 5, "samples_ns": [1000, 2000], "window_ns": [1, 9000]}
FIGURES = {
    "startup_ns": 5, "first_ns": 6, "load_ns": 7, "invoke": SCOPE, "frame": SCOPE, "rise_bytes": None,
    "engine": {"version": "1", "nodes": [
        {"op_name": "Conv", "provider": "CPUExecutionProvider", "input_type_shape": [{"float": [1, 2]}]},
    ]},
}  # fmt: skip
RESULT = {"event": "result", "pair": 0, "figures": FIGURES}


def state(at: str, pair: int = 0) -> dict[str, Any]:
    when = {"before": 1, "during": 2, "after": 3}[at]
    return {"event": "state", "pair": pair, "at": at, "monotonic_ns": when, "files": {}, "outputs": {}}


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def outcome_of(bundle: Bundle, *said: dict[str, Any]) -> Outcome:
    outcome = Outcome(make_job(bundle, BenchSettings()), "pi")
    for event in said:
        outcome.take(parse_event(line(event), "pi"))
    return outcome


@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_nothing_but_events_is_taken(said: bytes) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_event(said, "pi")
    assert str(caught.value).startswith("pi: ")
    assert str(caught.value).isprintable()


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A right event with one value somewhere replaced by anything."""
    event = json.loads(json.dumps(draw(st.sampled_from([MACHINE, state("before"), RESULT]))))
    place: Any = event
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not inner or not isinstance(inner, dict | list) or draw(st.booleans()):
            place[key] = draw(
                st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=3)
                | st.sampled_from(["\x1b[2J", "../../etc/passwd", "x" * 5000, 10**30, -1, [[]], {"a": {}}])
            )  # fmt: skip
            return dict(event)
        place = inner


@given(mutated())
@settings(max_examples=150)
def test_mutated_event_is_refused_or_harmless(bundle: Bundle, event: dict[str, Any]) -> None:
    text = refusal = ""
    try:
        text = (
            outcome_of(bundle, MACHINE, state("before"), state("after"), event, RESULT)
            .result()
            .model_dump_json()
        )
    except DeviceError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert "\\u001b" not in text


def test_words_are_one_printable_line(bundle: Bundle) -> None:
    failure = {"event": "failure", "pair": 0, "error": "\x1b]0;owned\x07 no\nmemory"}
    result = outcome_of(bundle, MACHINE, state("before"), state("after"), failure).result()
    assert result.rows[0].failure == "tiny.fp32.onnx on onnxruntime: ]0;owned no memory"


@pytest.mark.parametrize(
    "said",
    [
        [RESULT],
        [MACHINE, RESULT],
        [MACHINE, state("before"), RESULT],
        [MACHINE, state("after"), RESULT],
        [MACHINE, state("before"), state("after"), RESULT, RESULT],
        [MACHINE, state("before", pair=9)],
        [MACHINE, state("before"), state("during") | {"monotonic_ns": 1}],
        [MACHINE, {"event": "error", "error": "No space left on device"}],
        [MACHINE | {"missing": ["numpy"]}],
        [MACHINE, {"event": "end"}],
        [MACHINE, MACHINE | {"files": {"proc/cpuinfo": "model name\t: Another\n"}}],
    ],
)
def test_events_in_an_order_that_no_agent_has(said: list[dict[str, Any]], bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match=r"^pi: "):
        outcome_of(bundle, *said)


def test_state_that_was_begun_twice_counts_once(bundle: Bundle) -> None:
    begun = [MACHINE, state("before"), state("during")]
    outcome = outcome_of(bundle, *begun, *begun, state("after"), RESULT)
    watched = outcome.result().rows[0].watched
    assert watched is not None
    assert len(watched.samples) == 1


def test_type_that_looks_like_markup_is_printed_as_it_is(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.loads(json.dumps(RESULT))
    said["figures"]["engine"]["nodes"][0]["input_type_shape"] = [{"[/bold]": [1]}]
    print_tables(outcome_of(bundle, MACHINE, state("before"), state("after"), said).result(), where="pi")
    assert "[/bold]" in capsys.readouterr().out


def test_escape_sequence_in_what_a_program_printed_is_not_kept(bundle: Bundle) -> None:
    before = state("before") | {"outputs": {"nvpmodel": "NV Power Mode: \x1b[2J\n0\n"}}
    text = outcome_of(bundle, MACHINE, before, state("after"), RESULT).result().model_dump_json()
    assert '"name":"[2J"' in text
    assert "\\u001b" not in text


@given(st.lists(st.binary(max_size=40).filter(lambda one: b"\n" not in one)), st.integers(1, 7))
def test_lines_are_cut_wherever_they_arrive(lines: list[bytes], step: int) -> None:
    data = b"".join(one + b"\n" for one in lines)
    cutter = Lines("pi")
    found = [one for at in range(0, len(data), step) for one in cutter.feed(data[at : at + step])]
    assert found == lines


def test_endless_line_and_endless_output_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LINE_LIMIT", 100)
    with pytest.raises(DeviceError, match=r"^pi: expected lines of at most 100 bytes, found a longer one$"):
        list(Lines("pi").feed(b"x" * 101))
    with pytest.raises(DeviceError, match=r"^pi: expected at most 10 bytes, found more$"):
        list(Lines("pi", total=10).feed(b"x\n" * 6))


def test_journal_goes_on_after_a_line_that_was_cut_off(bundle: Bundle, tmp_path: Path) -> None:
    job, path = make_job(bundle, BenchSettings()), tmp_path / "journal"
    journal = Journal(path, job, "pi")
    for event in (MACHINE, state("before"), state("after"), RESULT):
        journal.take(line(event), parse_event(line(event), "pi"), lambda words: None)
    with path.open("ab") as file:
        file.write(b'{"event": "st')
    again = Journal(path, job, "pi")
    assert (again.resumed, again.outcome.done) == (1, frozenset({0}))
    again.take(line(state("before", 1)), parse_event(line(state("before", 1)), "pi"), lambda words: None)
    assert read_events(path, job).done == frozenset({0})


def test_journal_of_another_job_is_begun_anew(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, make_job(bundle, BenchSettings()), "pi")
    for event in (MACHINE, state("before"), state("after"), RESULT):
        journal.take(line(event), parse_event(line(event), "pi"), lambda words: None)
    assert Journal(path, make_job(bundle, BenchSettings(threads=2)), "pi").resumed == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pairs": [["tiny.fp32.onnx", "litert"]]}, "litert does not run tiny.fp32.onnx"),
        ({"pairs": [["tiny.fp32.onnx", "openvino"]]}, "is not driven from afar"),
        ({"pairs": [["nothing", "litert"]]}, "nothing"),
        ({"settings": {"fps": 30.0}}, "runs on a clock"),
    ],
)
def test_result_of_what_is_never_asked_is_refused(
    change: dict[str, Any], says: str, bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "result.jsonl"
    path.write_bytes(line(make_job(bundle, BenchSettings()).asked.model_dump(mode="json") | change) + b"\n")
    with pytest.raises(InputError, match=rf"result\.jsonl: .*{says}"):
        read_events(path, bundle=bundle)


@given(st.binary(max_size=200))
def test_any_file_is_a_result_or_refused_by_name(bundle: Bundle, tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "result.jsonl"
    path.write_bytes(data)
    with pytest.raises(NanonetEdgeError, match=r"result\.jsonl") as caught:
        read_events(path, bundle=bundle)
    assert isinstance(caught.value, DeviceError | InputError)
