"""A board's files as they were sent: read in memory by what reads a device's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nanonet_edge.devices.files import DeviceFiles, natural_order

Pattern = tuple[str, int]
_SMALL = 4096
_CPU = "sys/devices/system/cpu"

#: What `nanonet_edge.devices.read_state` reads: paths with wildcards, and the most bytes of each.
STATE_FILES: Final[tuple[Pattern, ...]] = (
    *((f"{_CPU}/cpu[0-9]*/cpufreq/{name}", _SMALL) for name in (
        "scaling_governor", "scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq", "cpuinfo_min_freq",
    )),
    (f"{_CPU}/cpu[0-9]*/thermal_throttle/*_throttle_count", _SMALL),
    *((f"sys/class/thermal/thermal_zone[0-9]*/{name}", _SMALL) for name in ("temp", "type")),
    *((f"sys/class/thermal/cooling_device[0-9]*/{name}", _SMALL) for name in (
        "type", "cur_state", "max_state",
    )),
    *((f"sys/class/hwmon/hwmon[0-9]*/{name}", _SMALL) for name in (
        "name", "in0_lcrit_alarm", "oc[0-9]_event_cnt", "in[1-3]_label", "power[1-3]_label",
        "power[1-3]_input", "in[1-3]_input", "curr[1-3]_input",
    )),
    *((f"sys/bus/i2c/drivers/ina3221x/*/iio:device*/{name}", _SMALL) for name in (
        "rail_name_[0-2]", "in_power[0-2]_input",
    )),
    *((f"sys/class/powercap/intel-rapl:*/{name}", _SMALL) for name in (
        "name", "energy_uj", "max_energy_range_uj",
    )),
    ("sys/devices/platform/soc*/*:firmware/get_throttled", _SMALL),
    ("var/lib/nvpmodel/status", _SMALL),
    ("etc/nvpmodel.conf", 1 << 18),
)  # fmt: skip

#: What `nanonet_edge.devices.detect` and `read_machine` look at.
MACHINE_FILES: Final[tuple[Pattern, ...]] = (
    *((f"proc/device-tree/{name}", _SMALL) for name in ("model", "compatible")),
    ("proc/cpuinfo", 1 << 18),
    ("etc/nv_tegra_release", _SMALL),
    ("etc/os-release", _SMALL),
    *((f"sys/bus/usb/devices/*/{name}", _SMALL) for name in ("idVendor", "idProduct")),
    *((f"sys/bus/pci/devices/*/{name}", _SMALL) for name in ("vendor", "device")),
    ("dev/apex_[0-9]*", _SMALL),
    *((f"{_CPU}/cpu[0-9]*/topology/{name}", _SMALL) for name in ("core_id", "physical_package_id")),
    *((f"{_CPU}/cpu0/cpufreq/{name}", _SMALL) for name in (
        "scaling_governor", "cpuinfo_min_freq", "cpuinfo_max_freq",
    )),
)  # fmt: skip


class SentFiles(DeviceFiles):
    """Files by path, in Latin-1; None for what exists and is no regular file.

    No path in it is ever opened: it is the key of a lookup.
    """

    def __init__(self, files: Mapping[str, str | None]) -> None:
        super().__init__()
        self._files = files
        self._folders: dict[str, set[str]] = {}
        for path in files:
            parts = path.split("/")
            for depth, name in enumerate(parts):
                self._folders.setdefault("/".join(parts[:depth]), set()).add(name)

    def read(self, path: str, limit: int = _SMALL) -> bytes | None:
        """As of `DeviceFiles`."""
        content = self._files.get(path)
        if content is None:
            return None
        if len(content) > limit:
            self._trouble(path, f"expected at most {limit} bytes, found more")
            return None
        return content.encode("latin-1")

    def exists(self, path: str) -> bool:
        """As of `DeviceFiles`."""
        return path in self._files or path in self._folders

    def entries(self, path: str) -> tuple[str, ...]:
        """As of `DeviceFiles`."""
        return tuple(sorted(self._folders.get(path, ()), key=natural_order))
