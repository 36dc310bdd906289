"""From events to results: the same `BenchResult` as of a run on the board itself."""

from __future__ import annotations

import datetime

from nanonet_edge.benchmarks.memory import rise_of
from nanonet_edge.benchmarks.remote.board_machine import describe_board
from nanonet_edge.benchmarks.remote.events import (
    EndEvent,
    EngineEvent,
    ErrorEvent,
    Event,
    FailureEvent,
    Figures,
    JobEvent,
    MachineEvent,
    ResultEvent,
    Scope,
    StateEvent,
)
from nanonet_edge.benchmarks.remote.job import Job, Pair
from nanonet_edge.benchmarks.remote.sent_files import SentFiles
from nanonet_edge.benchmarks.statistics import summarize
from nanonet_edge.benchmarks.timing import camera_frames
from nanonet_edge.devices import (
    DeviceState,
    WatchedRun,
    detect,
    energy_per_inference,
    judge,
    load_catalogue,
    read_state,
)
from nanonet_edge.errors import DeviceError, UnsupportedError
from nanonet_edge.results import BenchResult, BenchRow, Figure, Latency, Measurement, RuntimeInfo
from nanonet_edge.runtimes import parse_spec
from nanonet_edge.runtimes._tflite_graph import read_execution
from nanonet_edge.runtimes._tflite_interpreter import read_operator
from nanonet_edge.runtimes.onnx_runtime import computed_precision

#: More states than a pair that runs for hours leaves.
_MOST_STATES = 20_000
_NOT_ASKED = "not asked for"


class Outcome:
    """What has come home of a job so far.

    Attributes:
        machine: what the board said of itself.
        ended: whether the agent tried every pair.
        source: the board or file, for messages.
        expected: the device that the board must be; None for what it says it is.

    Raises (by `take`):
        DeviceError: an event that cannot follow those before it; names `source`.
    """

    def __init__(self, job: Job, source: str) -> None:
        self.job = job
        self.machine: MachineEvent | None = None
        self.ended = False
        self.source = source
        self.expected: str | None = None
        self._states: dict[int, list[StateEvent]] = {}
        self._done: dict[int, ResultEvent | FailureEvent] = {}

    @property
    def done(self) -> frozenset[int]:
        """The pairs that were measured, or cannot be."""
        return frozenset(self._done)

    @property
    def progress(self) -> str:
        """How much is done, in words."""
        return f"{len(self._done)} of {len(self.job.pairs)}"

    def take(self, event: Event) -> None:
        """Note one event."""
        if isinstance(event, JobEvent):
            if event != self.job.asked:
                raise DeviceError(f"{self.source}: these are results of another job")
        elif isinstance(event, MachineEvent):
            self._meet(event)
        elif isinstance(event, ErrorEvent):
            raise DeviceError(f"{self.source}: the board cannot go on: {event.error}")
        elif isinstance(event, StateEvent | ResultEvent | FailureEvent):
            self._take_of_pair(event)
        elif isinstance(event, EndEvent):
            self._end()

    def _end(self) -> None:
        if len(self._done) != len(self.job.pairs):
            raise DeviceError(
                f"{self.source}: expected {len(self.job.pairs)} results, found {len(self._done)}"
            )
        self.ended = True

    def _meet(self, event: MachineEvent) -> None:
        if event.missing:
            raise DeviceError(
                f"{self.source}: expected Python {event.facts.python} there to find "
                f"{', '.join(event.missing)}, found nothing"
            )
        if self.machine is not None and _board_name(event) != _board_name(self.machine):
            raise DeviceError(
                f"{self.source}: expected the same board as before ({_board_name(self.machine)}), "
                f"found {_board_name(event)}"
            )
        choose_device(self.expected, detect(SentFiles(event.files)).names, self.source)
        self.machine = event

    def _take_of_pair(self, event: StateEvent | ResultEvent | FailureEvent) -> None:
        if self.machine is None or event.pair >= len(self.job.pairs) or event.pair in self._done:
            raise DeviceError(f"{self.source}: an event of pair {event.pair} came where none was expected")
        states = self._states.setdefault(event.pair, [])
        if isinstance(event, StateEvent):
            if event.at == "before":  # a fresh start, after a connection was lost in the middle of it
                states.clear()
            is_later = not states or event.monotonic_ns > states[-1].monotonic_ns
            if len(states) >= _MOST_STATES or (event.at != "before" and not states) or not is_later:
                raise DeviceError(
                    f"{self.source}: expected fewer states of pair {event.pair}, or another order"
                )
            states.append(event)
            return
        if len(states) < 2 or states[-1].at != "after":
            raise DeviceError(
                f"{self.source}: expected the board's state with the result of pair {event.pair}"
            )
        self._done[event.pair] = event

    def result(self) -> BenchResult:
        """The result of the pairs that are done.

        Raises:
            DeviceError: nothing came home, or the board is not the one that is expected.
        """
        if self.machine is None or not self._done:
            raise DeviceError(f"{self.source}: nothing was measured")
        detected = detect(SentFiles(self.machine.files)).names
        bundle = self.job.bundle
        return BenchResult(
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            bundle=bundle.manifest.name,
            manifest_sha256=bundle.manifest_sha256,
            machine=describe_board(self.machine),
            detected=detected,
            settings=self.job.settings.model_copy(
                update={"device": choose_device(self.expected, detected, self.source)}
            ),
            frames=camera_frames(bundle)[1],
            rows=tuple(self._row(number) for number in sorted(self._done)),
            skipped=self.job.skipped,
        )

    def _row(self, number: int) -> BenchRow:
        pair, event = self.job.pairs[number], self._done[number]
        record = pair.artifact.record
        measurement = None
        if isinstance(event, ResultEvent):
            measurement = _measurement(pair, event.figures, self.job.settings.threads)
        return BenchRow(
            artifact=record.name,
            format=record.format,
            precision=record.precision,
            graph=record.graph,
            bytes=record.bytes,
            spec=pair.spec,
            measurement=measurement,
            failure=(
                f"{pair.artifact.name} on {pair.spec}: {event.error}"
                if isinstance(event, FailureEvent)
                else None
            ),
            watched=_watched(self._states[number], measurement),
        )


def boards_called(device: str) -> frozenset[str]:
    """The profiles that a device's or a family's name stands for.

    Raises:
        UsageError: no device or family is called so.
        UnsupportedError: it is an accelerator.
    """
    catalogue = load_catalogue()
    members = [one for one in catalogue.profiles.values() if one.family == device]
    profiles = members or [catalogue.get(device)]
    boards = frozenset(profile.name for profile in profiles if profile.kind != "accelerator")
    if not boards:
        raise UnsupportedError(
            f"device {device} is an accelerator: from afar a board's processor is measured"
        )
    return boards


def choose_device(expected: str | None, detected: tuple[str, ...], source: str) -> str:
    """The device that a board's figures go by: what was expected, if it is that.

    Args:
        expected: the name of a profile or of a family; None for the board's own word.
        detected: names of profiles, the board's first.

    Raises:
        UsageError, UnsupportedError: see `boards_called`.
        DeviceError: the board is another device.
    """
    if expected is None:
        return detected[0] if detected else "cpu"
    boards = boards_called(expected)
    found = next((name for name in detected if name in boards), None)
    if found is None:
        raise DeviceError(
            f"{source}: expected a {expected}, found {', '.join(detected) or 'a device without a profile'}"
        )
    return found


def _board_name(machine: MachineEvent) -> str:
    names = detect(SentFiles(machine.files)).names
    return f"{names[0] if names else 'no known device'}, {describe_board(machine).cpu_model}"


def _watched(events: list[StateEvent], measurement: Measurement | None) -> WatchedRun:
    states = [_state(event) for event in events]
    before, *samples, after = states
    scopes = () if measurement is None else (measurement.invoke, measurement.frame)
    return WatchedRun(
        before=before,
        samples=tuple(samples),
        after=after,
        validity=judge(before, samples, after),
        energy=tuple(
            energy
            for one in scopes
            for energy in energy_per_inference(one.scope, states, one.window_ns, len(one.samples_ns))
        ),
    )


def _state(event: StateEvent) -> DeviceState:
    state = read_state(SentFiles(event.files), {str(name): text for name, text in event.outputs.items()})
    return state.model_copy(update={"monotonic_ns": event.monotonic_ns})


def _measurement(pair: Pair, figures: Figures, threads: int) -> Measurement:
    return Measurement(
        startup=_milliseconds(figures.startup_ns),
        load=_milliseconds(figures.load_ns),
        first_inference=_milliseconds(figures.first_ns),
        invoke=_latency("invoke", figures.invoke),
        frame=_latency("frame", figures.frame),
        memory=rise_of(figures.rise_bytes),
        runtime=_runtime(pair, figures.engine, threads),
        missing={"pacing": _NOT_ASKED, "sustained": _NOT_ASKED},
    )


def _milliseconds(nanoseconds: int) -> Figure:
    return Figure(obtained="measured", unit="ms", value=nanoseconds / 1e6)


def _latency(scope: str, sent: Scope) -> Latency:
    return Latency.model_validate(
        {
            "obtained": "measured",
            "scope": scope,
            "window_ns": sent.window_ns,
            "warmup_runs": sent.warmup_runs,
            "summary": summarize(sent.samples_ns),
            "samples_ns": sent.samples_ns,
        }
    )


def _runtime(pair: Pair, engine: EngineEvent, threads: int) -> RuntimeInfo:
    name = parse_spec(pair.spec).name
    if name == "onnxruntime":
        nodes = [node.model_dump() for node in engine.nodes]
        delegate, precision = "CPUExecutionProvider", computed_precision(nodes)
        options = {f"nodes_on_{delegate}": str(len(nodes))}
    else:
        execution = read_execution([read_operator(one.model_dump()) for one in engine.operators])
        delegate, precision = execution.delegate, execution.precision
        options = {"delegated_operators": f"{execution.delegated} of {execution.operators}"}
    return RuntimeInfo(
        name=name,
        version=engine.version or "unknown",
        delegate=delegate,
        device="CPU",
        threads=threads,
        computed_precision=precision,
        options=options,
    )
