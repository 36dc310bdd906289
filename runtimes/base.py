"""The one interface that every inference engine stands behind.

A runtime loads one model, says what it takes and gives (`input`, `output`), runs it
(`invoke`), and lets go of it (`close`). The public methods validate; engines only write
the small hooks `_invoke`, `_describe` and `_release`. A runtime belongs to one thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from nanonet_edge import contract
from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.errors import NanonetEdgeError, RuntimeFailure, TensorError, UsageError
from nanonet_edge.results import RuntimeInfo

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]

_T = TypeVar("_T")

_MESSAGE_LIMIT = 400


def one_line(error: BaseException | str) -> str:
    """An engine's message on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"


class Runtime(ABC):
    """A loaded model.

    Attributes:
        source: the file or model, for messages.
        input: the tensor `invoke` takes.
        output: the tensor `invoke` gives.
        threads: threads the engine may use.
        load_ns: nanoseconds the engine took to load the model, 0 if nothing was loaded.
        is_spawned: whether each call starts the engine's program anew, which times itself; only
            runs of many inferences in one call are then worth their start.
    """

    is_spawned: ClassVar[bool] = False

    def __init__(self, source: str, takes: InputContract, gives: OutputContract, threads: int = 1) -> None:
        if threads < 1:
            raise UsageError(f"threads: expected at least 1, found {threads}")
        self.source = source
        self.input = takes
        self.output = gives
        self.threads = threads
        self.load_ns = 0
        self._closed = False
        self._info: RuntimeInfo | None = None

    # --- hooks of the engine -----------------------------------------------------------

    @abstractmethod
    def _invoke(self, x: Array) -> Array:
        """Run the model once; the result belongs to the caller."""

    @abstractmethod
    def _describe(self) -> RuntimeInfo:
        """Ask the engine what it does with the model; called once, while open."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the engine's objects; called once."""

    def _time(self, x: Array, min_runs: int, min_seconds: float, max_seconds: float) -> npt.NDArray[np.int64]:
        """Time `_invoke`; an engine in another process does it there."""
        clock = time.perf_counter_ns
        samples: list[int] = []
        now = clock()
        least, most = now + int(min_seconds * 1e9), now + int(max_seconds * 1e9)
        while not samples or (now < most and (len(samples) < min_runs or now < least)):
            start = clock()
            self._invoke(x)
            now = clock()
            samples.append(now - start)
        return np.array(samples, np.int64)

    def _memory(self) -> tuple[int, int] | None:
        """See `process_memory`."""
        return None

    # --- public ------------------------------------------------------------------------

    @property
    def info(self) -> RuntimeInfo:
        """What really runs.

        Asking may make the engine load the model a second time for a moment: ask after memory
        was measured, and before closing.
        """
        if self._info is None:
            self._check_open()
            self._info = self._guard("describe", self._describe)
        return self._info

    def invoke(self, x: Array) -> Array:
        """Run the model on one tensor.

        Args:
            x: an array of ``input.shape`` and ``input.dtype``, C-contiguous, finite.

        Returns:
            A new array of ``output.shape`` and ``output.dtype``.

        Raises:
            TensorError: `x` is not such an array.
            RuntimeFailure: the runtime is closed, or the engine failed.
        """
        self._check_open()
        self._check_input(x)
        result = self._guard("run", lambda: self._invoke(x))
        expected = (self.output.shape, np.dtype(self.output.dtype))
        if (result.shape, result.dtype) != expected:
            raise RuntimeFailure(
                f"{self.source}: output '{self.output.name}': expected shape {expected[0]} and dtype "
                f"{expected[1]}, the engine gave {result.shape} and {result.dtype}"
            )
        return result

    def invoke_unchecked(self, x: Array) -> Array:
        """`invoke` without the checks of `x` and of the result, for timing.

        Raises:
            RuntimeFailure: the runtime is closed. What the engine raises passes unchanged.
        """
        if self._closed:
            self._check_open()
        return self._invoke(x)

    def time_invoke(
        self, x: Array, min_runs: int, min_seconds: float, max_seconds: float = 600.0
    ) -> npt.NDArray[np.int64]:
        """Nanoseconds of consecutive invokes on the same tensor, measured in the engine's process.

        Runs until both `min_runs` and `min_seconds` are reached, or `max_seconds` have passed.

        Returns:
            (n,) int64 with n >= 1, in the order in which they ran.

        Raises:
            TensorError: `x` does not meet the input contract.
            RuntimeFailure: the runtime is closed, or the engine failed.
        """
        self._check_open()
        self._check_input(x)
        return self._guard("run", lambda: self._time(x, min_runs, min_seconds, max_seconds))

    def process_memory(self) -> tuple[int, int] | None:
        """Resident-set high-water marks in bytes of an engine that has a process of its own.

        Returns:
            Before the model was loaded, and until now; None if the engine lives in this
            process, or the system does not tell.

        Raises:
            RuntimeFailure: the runtime is closed, or the engine failed.
        """
        self._check_open()
        return self._guard("measure", self._memory)

    def probability(self, frame: Array) -> npt.NDArray[np.float32]:
        """Probabilities of a decoded frame: (H, W, 3) uint8 BGR -> (h, w, classes) float32."""
        return contract.to_probability(self.invoke(contract.preprocess(frame, self.input)), self.output)

    def mask(self, frame: Array) -> npt.NDArray[np.uint8]:
        """Labels of a decoded frame: (H, W, 3) uint8 BGR -> (h, w) uint8, sizes of the model."""
        return contract.to_mask(self.invoke(contract.preprocess(frame, self.input)), self.output)

    def close(self) -> None:
        """Let go of the model. Closing twice is fine; running it afterwards is refused."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- private -----------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeFailure(f"{self.source}: the runtime was closed: open the artifact again")

    def _check_input(self, x: Array) -> None:
        where = f"{self.source}: input '{self.input.name}'"
        if not isinstance(x, np.ndarray):
            raise TensorError(f"{where}: expected a NumPy array, found {type(x).__name__}")
        if x.dtype != np.dtype(self.input.dtype):
            raise TensorError(f"{where}: expected dtype {self.input.dtype}, found {x.dtype}")
        if x.shape != self.input.shape:
            raise TensorError(f"{where}: expected shape {self.input.shape}, found {x.shape}")
        if not x.flags.c_contiguous:
            raise TensorError(f"{where}: expected a C-contiguous array, found strides {x.strides}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            nans = int(np.isnan(x).sum())
            infinite = int(np.isinf(x).sum())
            raise TensorError(f"{where}: expected finite values, found {nans} NaN and {infinite} infinite")

    def _guard(self, verb: str, call: Callable[[], _T]) -> _T:
        """Turn whatever an engine raises into one line that names the file."""
        try:
            return call()
        except NanonetEdgeError:
            raise
        except Exception as error:  # engines raise anything, bare Exception included
            raise RuntimeFailure(
                f"{self.source}: the engine failed to {verb} it: {one_line(error)}"
            ) from error
