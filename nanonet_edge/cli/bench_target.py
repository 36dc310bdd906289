"""Where `nanonet-edge bench --device` runs: on this machine, on another one, or nowhere yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nanonet_edge.cli import common
from nanonet_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanonet_edge.bundle import Bundle
    from nanonet_edge.devices import Profile

#: This machine, whatever it is.
THIS_MACHINE = "cpu"

#: Where this machine describes itself; tests plant another.
ROOT = Path("/")


@dataclass(frozen=True)
class Target:
    """What is to be benched.

    Attributes:
        device: "cpu", or the name of a profile.
        profile: of that name; None for "cpu".
        where: "here" to measure on this machine, "there" to measure on a host that is reached,
            "nowhere" where only a prediction can be given.
    """

    device: str
    profile: Profile | None
    where: Literal["here", "there", "nowhere"]


def choose_target(device: str, *, has_host: bool) -> Target:
    """Find out what was meant by --device, and say so on stderr.

    Raises:
        UsageError: no device or family has that name.
    """
    if device == THIS_MACHINE:
        return Target(THIS_MACHINE, None, "there" if has_host else "here")
    from nanonet_edge.devices import detect, resolve

    resolution = resolve(device, root=ROOT)
    profile = resolution.profile
    if has_host:  # which member of a family it is, the board says
        return Target(profile.name, profile, "there")
    if resolution.rule != "named":
        common.note(resolution.explanation)
    found = detect(ROOT).names
    if profile.name in found:
        common.note(f"{profile.name} was recognised here ({profile.title}): measured on this machine")
        return Target(profile.name, profile, "here")
    here = ", ".join(found) or "of an unknown kind"
    common.note(f"this machine ({here}) is no {profile.name} ({profile.title}): nothing is measured")
    return Target(profile.name, profile, "nowhere")


@dataclass(frozen=True)
class Work:
    """What is measured on this machine: `artifacts` (None: all), and with which specs `also`."""

    artifacts: Sequence[str] | None
    also: tuple[str, ...] = ()


def plan_work(
    target: Target, bundle: Bundle, runtimes: Sequence[str] | None, artifacts: Sequence[str] | None
) -> Work:
    """Find out what of a device's accelerators can be used here; nothing is added to what the user named.

    Raises:
        UsageError: the device is an accelerator, and nothing here can use it, or no artifact is for it.
        BundleError: there is no artifact of that name.
    """
    if runtimes or target.profile is None or not target.profile.accelerators:
        return Work(artifacts)
    from nanonet_edge.runtimes import accelerated_specs, is_compiled
    from nanonet_edge.variants import Format, Precision

    kinds = {accelerator.kind for accelerator in target.profile.accelerators}
    usable, reasons = accelerated_specs(kinds)
    records = bundle.manifest.artifacts
    has_ranges = any(
        (one.format, one.precision) == (Format.ONNX, Precision.STATIC_WI8_AI8) for one in records
    )
    if not usable:
        lack = f"nothing here uses the {' or '.join(sorted(kinds)).upper()} of a {target.profile.title}"
        why = f"{lack}: {'; '.join(reasons)}"
        if target.profile.kind == "accelerator":
            raise UsageError(why)
        common.note(f"{why}: these are figures of its CPU")
        return Work(artifacts)
    if target.profile.kind == "accelerator":
        chosen = [bundle.artifact(name) for name in artifacts] if artifacts else bundle.artifacts
        names = [one.name for one in chosen if one.record.format is Format.TFLITE and is_compiled(one.path)]
        if not names:
            raise UsageError(
                f"{bundle.root}: expected an artifact compiled for the {target.profile.title}, found none: "
                "export with --target coral where edgetpu_compiler is installed"
            )
        return Work(names)
    # What is compiled for a TPU runs on it without being told to.
    gpu = tuple(one.spec for one in usable if one.kind == "gpu")
    return Work(artifacts, tuple(spec for spec in gpu if has_ranges or not spec.endswith("int8")))


def refuse_measuring(profile: Profile, options: Sequence[str]) -> None:
    """Refuse options that only a measurement can satisfy.

    Raises:
        UsageError: there are some.
    """
    if options:
        raise UsageError(
            f"{', '.join(options)}: expected to measure, but this machine is no {profile.name}: "
            "run it there, or name the board with --host"
        )


def predict(
    bundle: Bundle,
    profile: Profile,
    threads: int,
    artifacts: Sequence[str] | None,
    path: Path,
    *,
    as_json: bool,
) -> None:
    """Print what is predicted of a bundle on a device, and write it to `path`: no figure is measured.

    Raises:
        BundleError: there is no artifact of that name.
        MissingExtraError: the package that reads a format is not installed.
    """
    from nanonet_edge.benchmarks.prediction import predict_bundle
    from nanonet_edge.cli.predict import show
    from nanonet_edge.results import check_writable, save_result

    check_writable(path)
    names = {bundle.artifact(name).name for name in artifacts or ()}
    result = predict_bundle(bundle, profile, threads=threads)
    if names:
        rows = tuple(row for row in result.rows if row.artifact in names)
        result = result.model_copy(update={"rows": rows})
    save_result(result, path)
    if as_json:
        common.print_json(result)
    else:
        show(result)
    common.note(f"predicted, not measured; to measure: {result.measure}")
    common.note(f"predictions: {path}")
