"""What this machine and this build have for tensors on CUDA devices; `python -m tensometer.cuda` prints it."""

from __future__ import annotations

from dataclasses import dataclass

from tensometer import _core

__all__ = ["Availability", "Device", "available"]

_OLDEST = (7, 5)
# Of CUDA's versions the first whose drivers know images that are compressed for size, as image.cmake has them.
_COMPRESSED = 12040


@dataclass(frozen=True)
class Device:
    """A CUDA device: its number among those that this process sees, name, compute capability, multiprocessors."""

    index: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int


@dataclass(frozen=True)
class Availability:
    """Whether tensors on CUDA devices are reduced here; true or false as a condition.

    reason: what is missing (the kernels in this build, a driver that is new enough, a device), or "" where nothing is.
    devices: those that the driver knows, of which `usable` can run the kernels. architectures: for which ones there
    are kernels.
    """

    reason: str
    devices: tuple[Device, ...]
    architectures: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.reason

    @property
    def usable(self) -> tuple[Device, ...]:
        """The devices that the kernels run on."""
        return tuple(device for device in self.devices if device.capability >= _OLDEST)


def _too_old(driver: int, toolkit: int) -> str:
    """Why a driver does not run what a version of CUDA has compiled: it is of an older major version, or does not know
    images that are compressed as these are."""
    oldest = max(toolkit // 1000 * 1000, _COMPRESSED)
    if driver >= oldest:
        return ""
    return (
        f"CUDA {version_words(toolkit)} compiled the kernels, and the driver is of CUDA {version_words(driver)}: "
        f"a driver of CUDA {version_words(oldest)} or later is needed, or a build with an older nvcc"
    )


def version_words(version: int) -> str:
    """A version as drivers tell it: 13.1 for 13010."""
    return f"{version // 1000}.{version % 1000 // 10}"


def available() -> Availability:
    """Whether tensors on CUDA devices are reduced here, and why not. No context is made on any device."""
    size, architectures, toolkit = _core.cuda_image()
    names = tuple(architectures.split())
    devices: tuple[Device, ...] = ()
    reason = ""
    try:
        rows = _core.cuda_devices()
        devices = tuple(Device(i, name, (major, minor), count) for i, (name, major, minor, count) in enumerate(rows))
    except RuntimeError as error:
        reason = str(error)
    if not size:
        reason = "this build has no CUDA kernels: it was made where there was no nvcc"
    elif not reason and not devices:
        reason = "the driver knows no CUDA device"
    elif not reason:
        reason = _too_old(_core.cuda_driver_version(), toolkit)
    found = Availability(reason, devices, names)
    if found and not found.usable:
        capabilities = ", ".join(
            f"{device.name} has {device.capability[0]}.{device.capability[1]}" for device in devices
        )
        return Availability(f"the kernels need compute capability 7.5 or later; {capabilities}", devices, names)
    return found
