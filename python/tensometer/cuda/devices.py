"""Where the self-test's tensors lie: on a CUDA device whose memory torch allocates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tensometer.cuda.samples import Sample

# The handle of the stream that the array interface calls 1: CUDA's legacy default stream, torch's 0.
_LEGACY_STREAM = 1


class Device(Protocol):
    """What the self-test asks of a device."""

    def describe(self) -> str:
        """Its name, compute capability and driver."""

    def upload(self, sample: Sample) -> Any:
        """The sample's tensor on the device, whose memory has its bytes when this returns."""

    def stream(self, number: int) -> Any:
        """A context in which the device's work goes to that stream; 0 is the default one."""

    def overwrite(self, tensor: Any, value: int) -> None:
        """Sets all bytes of an uploaded tensor's memory, after all that its stream has been given so far."""

    def wait(self) -> None:
        """Returns when the device has done all that it was given."""


class NoTorchError(RuntimeError):
    """torch is missing, or has no CUDA device; the message says which."""


class _Interface:
    """A CUDA array interface over memory of torch, for what torch has no views of: negative steps, odd addresses."""

    def __init__(self, sample: Sample, memory: Any) -> None:
        self.memory, self._view, self._offset = memory, sample.view, sample.offset

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {
            "shape": self._view.shape,
            "typestr": self._view.dtype.str,
            "data": (self.memory.data_ptr() + self._offset, False),
            "strides": self._view.strides,
            "stream": current_stream(self.memory) or _LEGACY_STREAM,
            "version": 3,
        }


class TorchDevice:
    """A device of torch. Every other tensor is one of torch, the others have the CUDA array interface."""

    def __init__(self, device: Any) -> None:
        import torch

        self._torch, self._device = torch, torch.device(device)
        self._streams: dict[int, Any] = {}
        self._uploads = 0

    def describe(self) -> str:
        """Name, compute capability, driver, version of torch."""
        return describe(self._device)

    def upload(self, sample: Sample) -> Any:
        """A view of fresh memory."""
        self._uploads += 1
        memory = self._torch.from_numpy(sample.data.copy()).to(self._device)
        self.wait()
        bits_alone = sample.view.dtype.name != sample.dtype
        if bits_alone or (self._uploads % 2 and torch_has(sample)):
            return self._view(sample, memory)
        return _Interface(sample, memory)

    def _view(self, sample: Sample, memory: Any) -> Any:
        size = sample.view.itemsize
        typed = memory[: len(memory) // size * size].view(getattr(self._torch, sample.dtype))
        strides = [step // size for step in sample.view.strides]
        return typed.as_strided(sample.view.shape, strides, sample.offset // size)

    @contextmanager
    def stream(self, number: int) -> Iterator[None]:
        """One of torch's own streams a number."""
        if number == 0 or self._device.type != "cuda":
            yield
            return
        cuda = self._torch.cuda
        if number not in self._streams:
            self._streams[number] = cuda.Stream(self._device)
        with cuda.stream(self._streams[number]):
            yield

    def overwrite(self, tensor: Any, value: int) -> None:
        """Through torch, on its current stream."""
        if isinstance(tensor, _Interface):
            tensor.memory.fill_(value)
            return
        memory = self._torch.empty(0, dtype=self._torch.uint8, device=self._device)
        memory.set_(tensor.untyped_storage()).fill_(value)

    def wait(self) -> None:
        """For all streams of the device."""
        wait(self._device)


def torch_device() -> Any:
    """torch's current CUDA device. NoTorchError without one."""
    try:
        import torch
    except ImportError as error:
        raise NoTorchError(f"needs torch with CUDA: {error}") from None
    if torch.version.cuda is None:
        raise NoTorchError(f"needs torch with CUDA: torch {torch.__version__} was built without it")
    if not torch.cuda.is_available():
        raise NoTorchError(f"needs torch with CUDA: torch {torch.__version__} finds no device it can use")
    return torch.device("cuda", torch.cuda.current_device())


def torch_has(sample: Sample) -> bool:
    """Whether torch can have such a view: whole elements apart, none backwards."""
    size = sample.view.itemsize
    return all(step % size == 0 and step >= 0 for step in (*sample.view.strides, sample.offset))


def wait(device: Any) -> None:
    """Returns when torch's device has done all that it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def current_stream(tensor: Any) -> int:
    """The handle of the stream that torch gives work on a tensor to; 0 for the default one and for CPU memory."""
    import torch

    return int(torch.cuda.current_stream(tensor.device).cuda_stream) if tensor.device.type == "cuda" else 0


def describe(device: Any) -> str:
    """Name, compute capability and driver of torch's device, and torch's version."""
    import torch

    if device.type != "cuda":
        return f"{device.type} in place of a device, torch {torch.__version__}"
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    return f"{name}, compute capability {major}.{minor}, driver {driver_version()}, torch {torch.__version__}"


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The kernel module's version, such as 580.65.06; unknown where there is no such file."""
    try:
        words = path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return "unknown"
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")
