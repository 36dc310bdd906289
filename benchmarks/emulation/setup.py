"""Make an emulated machine: a Debian root without booting anything, and the engines' wheels."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from nanonet_edge.atomic import replaced_folder
from nanonet_edge.benchmarks.emulation.cache import BOOTSTRAP_PREFIX, Place
from nanonet_edge.benchmarks.emulation.machines import MIRROR, PYTHON, SUITE, GuestMachine, Wheel
from nanonet_edge.devices.wheels import fetch_wheels
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.manifest import sha256_file

#: Longest wait for mmdebstrap: 80 MB on a slow line.
_BOOTSTRAP_SECONDS: Final = 1800.0
#: As ``uname -m`` says it, which is how wheels are called.
_WHEEL_MACHINES: Final = {"aarch64": "aarch64", "armv7": "armv7l"}
#: What Debian's package scripts would link, had they run.
_LINKS: Final = {
    "armv7": {
        "usr/lib/arm-linux-gnueabihf/libblas.so.3": "blas/libblas.so.3",
        "usr/lib/arm-linux-gnueabihf/liblapack.so.3": "lapack/liblapack.so.3",
    }
}
_ARCHIVE_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*)_(?P<version>[^_]+)_[a-z0-9]+\.deb")

Report = Callable[[str], None]


def find_emulator(machine: GuestMachine) -> str | None:
    """The QEMU program of this system that runs the machine's binaries; None where there is none."""
    return next((found for name in machine.emulators if (found := shutil.which(name))), None)


def check_emulator(machine: GuestMachine) -> str:
    """`find_emulator`, which must find one.

    Raises:
        UsageError: there is none; the line to type is in it.
    """
    if (found := find_emulator(machine)) is None:
        raise missing_programs(f"emulating {machine.name}", [(machine.emulators[0], "qemu-user-static")])
    return found


def check_host(machine: GuestMachine) -> None:
    """Make sure that this system has what a set-up needs.

    Raises:
        UsageError: it has not; names the missing programs and the line to type.
    """
    missing = []
    if find_emulator(machine) is None:
        missing.append((machine.emulators[0], "qemu-user-static"))
    if shutil.which("mmdebstrap") is None:
        missing.append(("mmdebstrap", "mmdebstrap"))
    if missing:
        raise missing_programs(f"emulating {machine.name}", missing)


def missing_programs(work: str, what: Sequence[tuple[str, str]]) -> UsageError:
    """The error for (program, Debian's packages that have it) which `work` needs and this system lacks."""
    programs = ", ".join(program for program, _ in what)
    packages = " ".join(package for _, package in what)
    return UsageError(
        f"{work} needs {programs}, not found on this system: "
        f"apt-get install --no-install-recommends {packages}"
    )


def plan(place: Place, mirror: str = MIRROR) -> tuple[str, ...]:
    """What `set_up` would do, one line each; none where everything is there."""
    machine = place.machine
    lines = []
    if place.state("root") != "ready":
        lines.append(
            f"{place.tree('root')}: Debian {SUITE} for {machine.architecture} from {mirror}: "
            f"{', '.join(machine.packages)} and what they need"
        )
    if place.state("site") != "ready":
        wheels = ", ".join(wheel.requirement for wheel in machine.wheels)
        lines.append(f"{place.tree('site')}: wheels for {machine.name}, Python {PYTHON}: {wheels}")
    return tuple(lines)


def set_up(place: Place, *, mirror: str = MIRROR, report: Report = lambda line: None) -> None:
    """Make the machine, or the trees of it that are missing, damaged or outdated.

    Nothing is installed on this system, and no root is needed. What mmdebstrap downloads is
    authenticated by Debian's keys; wheels by digests that come with the toolkit.

    Args:
        place: which machine, and where.
        mirror: of Debian.
        report: called with one line before each step.

    Raises:
        UsageError: a program is missing on this system.
        InputError: a download failed, or is not what it should be; what is whole is kept.
    """
    check_host(place.machine)
    place.folder.mkdir(parents=True, exist_ok=True)
    if place.state("root") != "ready":
        report(f"making {place.tree('root')}")
        _make_root(place, mirror)
    if place.state("site") != "ready":
        wheels = place.machine.wheels
        paths = fetch_wheels(
            [wheel.requirement for wheel in wheels],
            machine=_WHEEL_MACHINES[place.machine.name],
            python=PYTHON,
            folder=place.wheels,
            report=report,
        )
        report(f"making {place.tree('site')}")
        _make_site(place, list(zip(wheels, paths, strict=True)))
    shutil.rmtree(place.wheels, ignore_errors=True)


def _make_root(place: Place, mirror: str) -> None:
    machine = place.machine
    with tempfile.TemporaryDirectory(prefix=BOOTSTRAP_PREFIX, dir=place.folder) as temporary:
        archive = Path(temporary) / "root.tar"
        _bootstrap(machine, mirror, archive)
        shutil.rmtree(place.bytecode, ignore_errors=True)
        with replaced_folder(place.tree("root")) as root:
            unpack_root(archive, root)
            for link, target in _LINKS.get(machine.name, {}).items():
                if not (root / link).is_symlink():
                    (root / link).symlink_to(target)
            versions = _package_versions(root)
    if not (place.tree("root") / "usr/bin/python3").exists():
        raise InputError(f"{place.tree('root')}: expected usr/bin/python3, found none")
    place.write("root", versions)


def _bootstrap(machine: GuestMachine, mirror: str, archive: Path) -> None:
    command = [
        # Nothing of the packages is run, so neither root nor a name space of its own is needed.
        *("mmdebstrap", "--mode=chrootless", "--variant=extract", "--format=tar"),
        f"--architectures={machine.architecture}",
        # The downloaded packages are still there then, and their names tell the versions.
        '--extract-hook=cd "$1" && ls var/cache/apt/archives > package-versions || true',
        *(f"--include={','.join(machine.packages)}", SUITE, str(archive), mirror),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_BOOTSTRAP_SECONDS,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{mirror}: mmdebstrap did not finish within {_BOOTSTRAP_SECONDS:.0f} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E: ")]
        said = " ".join((errors or done.stderr.splitlines() or ["nothing"])[0].split())[:300]
        raise InputError(f"{mirror}: mmdebstrap failed, saying {said}")


def unpack_root(archive: Path, root: Path) -> None:
    """Unpack the files, folders and links of a root file system, as whoever runs this.

    Devices are left out, for which one must be root, and owners: the guest sees the host's /dev.

    Raises:
        InputError: it is no tar archive, or an entry leads out of the folder.
    """
    try:
        with tarfile.open(archive) as opened:
            for entry in opened:
                name = PurePosixPath(entry.name)
                if name.parts and name.parts[0] != "dev":
                    _check_inside(archive, name, root)
                    _unpack(opened, entry, root / name, root)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{archive}: expected a tar archive: {error}") from None
    except (KeyError, RecursionError):
        raise InputError(f"{archive}: expected hard links to files, found one that leads to none") from None


def _check_inside(archive: Path, name: PurePosixPath, root: Path) -> None:
    leads_out = name.is_absolute() or ".." in name.parts
    # A link that was unpacked before may lead out as well.
    if leads_out or not (root / name).parent.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{archive}: refusing '{name}': it leads out of the folder")


def _unpack(opened: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, root: Path) -> None:
    if entry.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif entry.issym():
        target.symlink_to(entry.linkname)
    elif entry.islnk():
        _unpack(opened, opened.getmember(entry.linkname), target, root)
    elif (source := opened.extractfile(entry)) is not None:
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file)
        target.chmod(0o755 if entry.mode & 0o111 else 0o644)


def _package_versions(root: Path) -> dict[str, str]:
    """Debian's packages and their versions, by the names of the archives that were unpacked."""
    listing = root / "package-versions"
    names = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    found = (_ARCHIVE_NAME.fullmatch(name) for name in names)
    return {match["name"]: match["version"].replace("%3a", ":") for match in found if match}


def _make_site(place: Place, wheels: list[tuple[Wheel, Path]]) -> None:
    for wheel, path in wheels:
        digest = sha256_file(path)
        if digest != wheel.sha256:
            path.unlink()
            raise InputError(
                f"{path.name}: expected sha256 {wheel.sha256[:12]}…, found {digest[:12]}…: the package "
                f"index gave another file for {wheel.requirement}; it was deleted"
            )
    with replaced_folder(place.tree("site")) as site:
        for _, path in wheels:
            with zipfile.ZipFile(path) as opened:
                opened.extractall(site)  # noqa: S202 - its digest is the known one
    place.write("site", {wheel.name: wheel.version for wheel, _ in wheels})
