"""A board's own binaries on this machine: the masks they give, the instructions they take.

`set_up` makes a small Debian root and unpacks the engines' wheels beside it; `Emulator` runs a
model there under QEMU's user emulation; `verify_emulated` holds its raw outputs and masks against
the host's and the reference's; `count_emulated` counts instructions by class, and `compare_counts`
is the gate for a CI. Times under emulation mean nothing, so none is kept.
"""
