"""Arrays in the memory of the fake driver's device, as libraries of CUDA arrays show theirs."""

from __future__ import annotations

import ctypes
import fcntl
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from tensometer import _core

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "core"
# What the driver takes for kernels.
IMAGE = FOLDER / "fake_image"


def image_settings() -> dict[str, str]:
    """Where this build of the package has no kernels, as without nvcc, others that the driver takes: environment."""
    return {} if _core.cuda_image()[0] else {"TENSOMETER_CUDA_IMAGE": str(IMAGE)}


def build() -> Path:
    """Compile libcuda.so.1, if anything of it has changed; its path."""
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    configure = ["cmake", "-S", str(ROOT), "-B", str(FOLDER), "-G", "Ninja", "-DTENSOMETER_TESTS=ON"]
    compile_it = ["cmake", "--build", str(FOLDER), "--target", "fake_driver"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "fake_driver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in processes side by side
        for command in [compile_it] if (FOLDER / "CMakeCache.txt").exists() else [configure, compile_it]:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        IMAGE.write_text("tensometer fake image")
    return FOLDER / "libcuda.so.1"


class Driver:
    """What only tests may ask of it."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.tensometer_fake_upload.restype = ctypes.c_void_p
        self._library.tensometer_fake_upload.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._library.tensometer_fake_free.argtypes = [ctypes.c_void_p]
        self._library.tensometer_fake_count.restype = ctypes.c_uint64

    def count(self, name: str) -> int:
        """How often a function of the driver was called, or how many there are of what fake_device.cpp counts."""
        return int(self._library.tensometer_fake_count(name.encode()))

    def reset(self) -> None:
        """Counts from 0, with the settings that the environment has now."""
        self._library.tensometer_fake_reset()

    def finish(self) -> None:
        self._library.tensometer_fake_finish()

    def array(self, array: np.ndarray[Any, Any], **kind: Any) -> CudaArray:
        return CudaArray(self, array, **kind)

    def upload(self, data: bytes) -> int:
        return int(self._library.tensometer_fake_upload(data, len(data)))

    def free(self, pointer: int) -> None:
        self._library.tensometer_fake_free(pointer)


class CudaArray:
    """A copy on the device of what a NumPy array shows, with the same strides."""

    def __init__(self, driver: Driver, array: np.ndarray[Any, Any], stream: int | None = None) -> None:
        self._driver, self.array, self._stream, self._pointer = driver, array, stream, 0
        offset = 0
        if array.size:
            low, high = np.lib.array_utils.byte_bounds(array)
            data = ctypes.string_at(low, high - low)
            self._pointer = driver.upload(data)
            offset = array.__array_interface__["data"][0] - low
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self._pointer + offset, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "stream": stream,
            "version": 3,
        }

    def __del__(self) -> None:
        if self._pointer:
            self._driver.free(self._pointer)


class _Tensor(ctypes.Structure):
    """DLTensor and what holds it, by DLPack's specification."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_CODES = {"i": 0, "u": 1, "f": 2, "V": 4, "c": 5, "b": 6}
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class DLPackArray:
    """The same with DLPack's interface alone; `streams` are those that were to wait for its data."""

    def __init__(self, driver: Driver, array: np.ndarray[Any, Any], device: int = 0, code: int | None = None) -> None:
        self._inner, self._device = CudaArray(driver, array), device
        self._code = _CODES[array.dtype.kind] if code is None else code
        self.array, self.streams = array, list[object]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._device

    def __dlpack__(self, *, stream: object = None, max_version: object = None) -> object:
        del max_version
        self.streams.append(stream)
        array = self.array
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        strides = (ctypes.c_int64 * array.ndim)(*(step // array.itemsize for step in array.strides))
        pointer = self._inner.__cuda_array_interface__["data"][0]
        tensor = _Tensor(pointer, 2, self._device, array.ndim, self._code, array.itemsize * 8, 1, shape, strides)
        self._exported = (tensor, shape, strides)  # for as long as this lives
        return _new_capsule(ctypes.addressof(tensor), b"dltensor", None)


_FromObject = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Tensor))
_CurrentStream = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))


class _ExchangeApi(ctypes.Structure):
    """DLPackExchangeAPI, by DLPack's specification."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("managed_from_object", ctypes.c_void_p),
        ("managed_to_object", ctypes.c_void_p),
        ("tensor_from_object", _FromObject),
        ("current_stream", _CurrentStream),
    )


class ExchangedArray(DLPackArray):
    """The same with DLPack's exchange interface for C, as tensors of torch have it; work goes to the stream 7."""

    def exchanged(self, out: Any) -> int:
        self.__dlpack__()
        size = _Tensor.manager.offset
        ctypes.memmove(out, ctypes.addressof(self._exported[0]), size)
        return 0


def _current_stream(device_type: int, device: int, out: Any) -> int:
    out[0] = 7
    return 0 if (device_type, device) == (2, 0) else 1


_api = _ExchangeApi(
    1, 3, None, None, None, None, _FromObject(lambda x, out: x.exchanged(out)), _CurrentStream(_current_stream)
)
_API_NAME = b"dlpack_exchange_api"  # a capsule keeps no copy
ExchangedArray.__dlpack_c_exchange_api__ = _new_capsule(ctypes.addressof(_api), _API_NAME, None)


DTYPES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
    "complex64",
    "complex128",
]


def wild(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """All bit patterns that the type has, as often as chance will have them."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    size = np.dtype(dtype).itemsize
    return rng.integers(0, 256, (*shape, size), dtype=np.uint8).view(dtype)[..., 0]


def alone(code: str, **environment: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin", **image_settings(), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def failures_at_each_call(library: Path, begin: str, tried: str) -> list[int]:
    """Of each of the first 99 calls of the driver, how often its error was raised by `tried`, which runs twice."""
    code = f"""{FAKE_TENSOR}
for at in range(1, 100):
    if os.fork() == 0:
        os.environ["TENSOMETER_FAKE"] = f"fail_at={{at}} error=700"
        driver.reset()
        failures = 0
{indent(begin.strip(), " " * 8)}
        for _ in range(2):
            try:
{indent(tried.strip(), " " * 16)}
            except RuntimeError as error:
                assert str(error).startswith("cuda: "), error
                failures += 1
        print(at, failures, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, at
"""
    told = alone(code, TENSOMETER_LIBCUDA=str(library)).splitlines()
    assert len(told) == 99
    return [int(line.split()[1]) for line in told]


FAKE_TENSOR = """
import numpy as np, os, sys, tensometer
from fake_cuda import CudaArray, Driver
driver = Driver(os.environ["TENSOMETER_LIBCUDA"])
x = np.arange(5000, dtype=np.float32)
array = driver.array(x)
"""
