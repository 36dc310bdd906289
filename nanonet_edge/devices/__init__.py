"""Boards and accelerators: what is known of them, which one this is, and the state it is in.

Profiles are data (`profiles/*.json`, one per device, each figure with its source); `load_catalogue`
reads them and the user's own. `resolve` turns what a user typed into a profile, `detect` recognises
a device from its own files, `read_state` reads what must accompany a measurement and `judge` says
whether that measurement counts.
"""

from nanonet_edge.devices.catalogue import Catalogue, load_catalogue
from nanonet_edge.devices.detect import Detection, detect
from nanonet_edge.devices.energy import Energy, energy_over
from nanonet_edge.devices.profile import Profile, load_profile
from nanonet_edge.devices.resolve import Resolution, resolve
from nanonet_edge.devices.state import DeviceState, ask_commands, read_state
from nanonet_edge.devices.validity import Validity, judge
from nanonet_edge.devices.watched import EnergyPerInference, WatchedRun, energy_per_inference

__all__ = [
    "Catalogue",
    "Detection",
    "DeviceState",
    "Energy",
    "EnergyPerInference",
    "Profile",
    "Resolution",
    "Validity",
    "WatchedRun",
    "ask_commands",
    "detect",
    "energy_over",
    "energy_per_inference",
    "judge",
    "load_catalogue",
    "load_profile",
    "read_state",
    "resolve",
]
