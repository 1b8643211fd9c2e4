"""CUDA tensors of PyTorch on a machine without a GPU: their memory is the fake driver's device's.

What the device is asked to do is done before the next operation of PyTorch on such tensors, as the order of a stream
would have it. To look at an element on the host waits for the device, which is counted, and may be forbidden.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import fake_cuda
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

STREAM = 7
_CODES = {torch.bfloat16: 4, torch.bool: 6}


class Device:
    """The one that the tensors lie on."""

    driver: fake_cuda.Driver
    forbidden = False
    synchronised = 0
    # Memory that queued work reads, whoever gives it back: an allocator that keeps the order of a stream does so too.
    kept: list[Any] = []  # noqa: RUF012 - there is one device

    # Copies to the host that are under way.
    copies: list[tuple[torch.Tensor, torch.Tensor]] = []  # noqa: RUF012 - there is one device
    graph: Graph | None = None  # that is being captured

    @classmethod
    def catch_up(cls) -> None:
        """All that is under way is done."""
        cls.driver.finish()
        for there, here in cls.copies:
            there.copy_(here)
        cls.copies = []
        cls.kept = [one for one in cls.kept if one[0] == cls.launches()]

    @classmethod
    def launches(cls) -> int:
        return cls.driver.count("cuLaunchKernel")

    @classmethod
    def keep(cls, *memory: Any) -> None:
        """Until what is launched next is done."""
        cls.kept.append((cls.launches(), *memory))

    @classmethod
    def synchronise(cls, what: str) -> None:
        cls.synchronised += 1
        assert not cls.forbidden, f"{what} waits for the device"
        cls.catch_up()


class Graph:
    """As torch.cuda.CUDAGraph, between `with` and replay(), but that what is captured runs once too."""

    def __init__(self) -> None:
        self._work: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []

    def __enter__(self) -> Graph:
        Device.graph = self
        return self

    def __exit__(self, *_: object) -> None:
        Device.graph = None

    def record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        self._work.append((func, args, kwargs, [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]))

    @property
    def names(self) -> list[str]:
        return [str(func) for func, *_ in self._work]

    def replay(self) -> None:
        """Into the same memory. Views and changes in place need no more than to be made again."""
        Device.catch_up()
        for func, args, kwargs, outputs in self._work:
            again = [one for one in tree_leaves(func(*args, **kwargs)) if isinstance(one, torch.Tensor)]
            for old, new in zip(outputs, again, strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Event:
    """As of torch.cuda. The first question is asked before the device has come that far."""

    def __init__(self) -> None:
        self._asked = False

    def record(self, stream: object) -> None:
        assert stream is not None

    def query(self) -> bool:
        if self._asked:
            Device.catch_up()
        self._asked, asked = True, self._asked
        return asked

    def synchronize(self) -> None:
        Device.synchronise("synchronize() of an event")


_WAITING = {"_local_scalar_dense", "equal", "nonzero", "is_nonzero", "masked_select", "unique_dim", "_unique2"}


class CudaTensor(torch.Tensor):
    """A tensor on the device."""

    inner: torch.Tensor
    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl
    __dlpack_c_exchange_api__ = None

    @staticmethod
    def __new__(cls: type[CudaTensor], inner: torch.Tensor) -> CudaTensor:
        made: CudaTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner.detach()
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)

    def __repr__(self) -> str:  # type: ignore[override]
        Device.synchronise("repr()")
        return f"CudaTensor({self.inner})"

    def cpu(self, *_: Any) -> torch.Tensor:  # type: ignore[override]
        Device.synchronise("cpu()")
        return self.inner.clone()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self) -> Any:
        Device.synchronise("tolist()")
        return self.inner.tolist()

    def detach(self) -> torch.Tensor:
        # Of a wrapper, PyTorch has none in inference mode.
        return CudaTensor(self.inner) if torch.is_inference_mode_enabled() else super().detach()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __dlpack_device__(self) -> tuple[int, int]:  # type: ignore[override]
        return 2, 0

    def __dlpack__(self, *, stream: object = None, max_version: object = None, **_: Any) -> Any:  # type: ignore[override]
        del max_version
        assert stream == -1, "someone waits for a stream"
        inner = self.inner
        shape = (ctypes.c_int64 * inner.dim())(*inner.shape)
        strides = (ctypes.c_int64 * inner.dim())(*inner.stride())
        dtype = inner.dtype
        code = _CODES.get(
            dtype, 5 if dtype.is_complex else 2 if dtype.is_floating_point else 0 if dtype.is_signed else 1
        )
        exported = fake_cuda._Tensor(
            inner.data_ptr(), 2, 0, inner.dim(), code, inner.element_size() * 8, 1, shape, strides
        )
        Device.keep(inner, exported, shape, strides)
        return fake_cuda._new_capsule(ctypes.addressof(exported), b"dltensor", None)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        if name in _WAITING:
            Device.synchronise(str(func))
        if name == "empty_like" and kwargs.get("pin_memory"):
            return torch.empty_like(args[0].inner, memory_format=torch.preserve_format)
        if name == "copy_" and type(args[0]) is torch.Tensor:
            assert args[2], "a copy to the host waits for the device"
            Device.copies.append((args[0].fill_(args[0].numel()), args[1].inner.clone()))
            return args[0]
        Device.catch_up()
        inner = tree_map_only(CudaTensor, lambda one: one.inner, (args, kwargs))
        out = func(*inner[0], **inner[1])
        if Device.graph is not None:
            Device.graph.record(func, *inner, out)
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(torch.Tensor, CudaTensor, out))


def to_device(value: Any) -> Any:
    """A copy of a tensor; or a module, whose parameters and buffers are moved."""
    if isinstance(value, torch.Tensor):
        return CudaTensor(value.detach().clone())
    assert isinstance(value, nn.Module)
    moved: dict[int, Any] = {}
    for module in value.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                one = moved.setdefault(id(parameter), nn.Parameter(to_device(parameter), parameter.requires_grad))
                module._parameters[name] = one
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = to_device(buffer)
    return value


def host(value: torch.Tensor) -> torch.Tensor:
    """What a tensor holds, for a test to look at when all is done."""
    Device.catch_up()
    return value.inner if isinstance(value, CudaTensor) else value


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Whoever waits for the device fails."""
    before, Device.forbidden = Device.forbidden, True
    waited = Device.driver.count("cuEventSynchronize")
    try:
        yield
    finally:
        Device.forbidden = before
    assert Device.driver.count("cuEventSynchronize") == waited


def install(driver: fake_cuda.Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on there are CUDA tensors."""
    Device.driver, Device.forbidden, Device.synchronised = driver, False, 0
    Device.copies, Device.graph = [], None
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: Device.graph is not None)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: SimpleNamespace(cuda_stream=STREAM))


class LatePendings:
    """Holds results back that are there, until they are released."""

    def __init__(self, submit: Callable[..., Any]) -> None:
        self._submit = submit
        self.made: list[LatePending] = []
        self.late = True

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        pending = self._submit(*arguments, **settings)
        if pending is not None:
            self.made.append(LatePending(self, pending))
            return self.made[-1]
        return None

    def release(self, count: int | None = None) -> None:
        """Of those that are held back, the first; or all, now and from now on."""
        self.late = self.late and count is not None
        held = [one for one in self.made if not one.released]
        for one in held[:count]:
            one.released = True


class LatePending:
    def __init__(self, owner: LatePendings, pending: Any) -> None:
        self._owner, self._pending, self.released = owner, pending, not owner.late

    def ready(self) -> bool:
        return self.released and bool(self._pending.ready())

    def result(self) -> Any:
        return self._pending.result()

    @property
    def bins_lost(self) -> list[int]:
        return list(self._pending.bins_lost)

    @property
    def refused(self) -> list[tuple[int, Exception]]:
        return list(self._pending.refused)
