// The CUDA driver, opened at run time: the functions that are called, and what they say when they fail. Nothing is linked,
// so one build serves machines with and without a GPU. driver_check.cpp compares every signature with cuda.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

// The driver's opaque types, by the names that cuda.h gives them.
struct CUctx_st;
struct CUmod_st;
struct CUfunc_st;
struct CUstream_st;
struct CUevent_st;

namespace tensometer::cuda {

using ContextHandle = CUctx_st*;
using ModuleHandle = CUmod_st*;
using FunctionHandle = CUfunc_st*;
using StreamHandle = CUstream_st*;
using EventHandle = CUevent_st*;
using DevicePointer = unsigned long long;
using Status = unsigned;     // a CUresult
using Attribute = unsigned;  // of a device, a function, a pointer

// X(member, symbol, parameters). Names end in _v2 where the driver exports an older function under the plain name.
#define TENSOMETER_DRIVER_FUNCTIONS(X)                                                                           \
  X(init, cuInit, (unsigned))                                                                                    \
  X(driver_version, cuDriverGetVersion, (int*))                                                                  \
  X(error_name, cuGetErrorName, (Status, const char**))                                                          \
  X(error_text, cuGetErrorString, (Status, const char**))                                                        \
  X(device_count, cuDeviceGetCount, (int*))                                                                      \
  X(device_get, cuDeviceGet, (int*, int))                                                                        \
  X(device_name, cuDeviceGetName, (char*, int, int))                                                             \
  X(device_attribute, cuDeviceGetAttribute, (int*, Attribute, int))                                              \
  X(context_retain, cuDevicePrimaryCtxRetain, (ContextHandle*, int))                                             \
  X(context_release, cuDevicePrimaryCtxRelease_v2, (int))                                                        \
  X(context_push, cuCtxPushCurrent_v2, (ContextHandle))                                                          \
  X(context_pop, cuCtxPopCurrent_v2, (ContextHandle*))                                                           \
  X(capture_mode, cuThreadExchangeStreamCaptureMode, (unsigned*))                                                \
  X(module_load, cuModuleLoadData, (ModuleHandle*, const void*))                                                 \
  X(module_unload, cuModuleUnload, (ModuleHandle))                                                               \
  X(module_function, cuModuleGetFunction, (FunctionHandle*, ModuleHandle, const char*))                          \
  X(function_set, cuFuncSetAttribute, (FunctionHandle, Attribute, int))                                          \
  X(launch, cuLaunchKernel,                                                                                      \
    (FunctionHandle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, StreamHandle, void**, \
     void**))                                                                                                    \
  X(memory_alloc, cuMemAlloc_v2, (DevicePointer*, std::size_t))                                                  \
  X(memory_free, cuMemFree_v2, (DevicePointer))                                                                  \
  X(host_alloc, cuMemHostAlloc, (void**, std::size_t, unsigned))                                                 \
  X(host_free, cuMemFreeHost, (void*))                                                                           \
  X(copy_to_device, cuMemcpyHtoDAsync_v2, (DevicePointer, const void*, std::size_t, StreamHandle))               \
  X(copy_to_host, cuMemcpyDtoHAsync_v2, (void*, DevicePointer, std::size_t, StreamHandle))                       \
  X(set_bytes, cuMemsetD8Async, (DevicePointer, unsigned char, std::size_t, StreamHandle))                       \
  X(event_create, cuEventCreate, (EventHandle*, unsigned))                                                       \
  X(event_destroy, cuEventDestroy_v2, (EventHandle))                                                             \
  X(event_record, cuEventRecord, (EventHandle, StreamHandle))                                                    \
  X(event_query, cuEventQuery, (EventHandle))                                                                    \
  X(event_wait, cuEventSynchronize, (EventHandle))                                                               \
  X(stream_wait, cuStreamWaitEvent, (StreamHandle, EventHandle, unsigned))                                       \
  X(stream_capturing, cuStreamIsCapturing, (StreamHandle, unsigned*))                                            \
  X(pointer_attribute, cuPointerGetAttribute, (void*, Attribute, DevicePointer))

// X(name, what cuda.h calls it, value): the constants that are passed or looked for.
#define TENSOMETER_DRIVER_CONSTANTS(X)                                              \
  X(error_invalid_value, CUDA_ERROR_INVALID_VALUE, 1)                               \
  X(error_out_of_memory, CUDA_ERROR_OUT_OF_MEMORY, 2)                               \
  X(error_not_initialized, CUDA_ERROR_NOT_INITIALIZED, 3)                           \
  X(error_invalid_context, CUDA_ERROR_INVALID_CONTEXT, 201)                         \
  X(error_invalid_handle, CUDA_ERROR_INVALID_HANDLE, 400)                           \
  X(error_not_ready, CUDA_ERROR_NOT_READY, 600)                                     \
  X(error_illegal_address, CUDA_ERROR_ILLEGAL_ADDRESS, 700)                         \
  X(error_launch_timeout, CUDA_ERROR_LAUNCH_TIMEOUT, 702)                           \
  X(error_assert, CUDA_ERROR_ASSERT, 710)                                           \
  X(error_hardware_stack, CUDA_ERROR_HARDWARE_STACK_ERROR, 714)                     \
  X(error_launch_failed, CUDA_ERROR_LAUNCH_FAILED, 719)                             \
  X(error_capture_implicit, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, 906)                \
  X(device_processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16)                \
  X(device_threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 39)         \
  X(device_unified_addressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 41)          \
  X(device_capability_major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75)      \
  X(device_capability_minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)      \
  X(device_shared_bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 97) \
  X(function_shared_bytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 8)      \
  X(pointer_device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, 9)                         \
  X(host_portable, CU_MEMHOSTALLOC_PORTABLE, 1)                                     \
  X(host_mapped, CU_MEMHOSTALLOC_DEVICEMAP, 2)                                      \
  X(event_without_timing, CU_EVENT_DISABLE_TIMING, 2)                               \
  X(capture_none, CU_STREAM_CAPTURE_STATUS_NONE, 0)                                 \
  X(capture_relaxed, CU_STREAM_CAPTURE_MODE_RELAXED, 2)

namespace constants {
#define TENSOMETER_CONSTANT(name, original, value) inline constexpr unsigned name = value;
TENSOMETER_DRIVER_CONSTANTS(TENSOMETER_CONSTANT)
#undef TENSOMETER_CONSTANT
}  // namespace constants

// What the driver, or the want of one, says.
class CudaError : public std::runtime_error {
 public:
  CudaError(const std::string& message, Status status) : std::runtime_error(message), status_(status) {}
  Status status() const { return status_; }  // 0 if no call failed

 private:
  Status status_;
};

// There was no memory for something that can be asked for again.
class OutOfMemory : public CudaError {
 public:
  explicit OutOfMemory(const CudaError& error) : CudaError(error) {}
};

template <class Signature>
struct Function {
  Signature* pointer = nullptr;
  const char* name = nullptr;
};

struct Driver {
#define TENSOMETER_MEMBER(member, symbol, parameters) Function<Status parameters> member{nullptr, #symbol};
  TENSOMETER_DRIVER_FUNCTIONS(TENSOMETER_MEMBER)
#undef TENSOMETER_MEMBER

  // Calls, and throws CudaError with the call's name if it fails.
  template <class Signature, class... Arguments>
  void call(const Function<Signature>& function, Arguments... arguments) const {
    if (const Status status = function.pointer(arguments...); status != 0) fail(function.name, status);
  }
  // The same of what takes memory and leaves everything as it was if there is none: OutOfMemory then.
  template <class Signature, class... Arguments>
  void allocate(const Function<Signature>& function, Arguments... arguments) const {
    try {
      call(function, arguments...);
    } catch (const CudaError& error) {
      if (error.status() == constants::error_out_of_memory) throw OutOfMemory(error);
      throw;
    }
  }
  [[noreturn]] void fail(const char* name, Status status) const;
};

// Throws std::runtime_error in a child forked from a process that has used the driver. Nothing else works there, not even
// locks.
void check_process();

// Opens libcuda.so.1, or what TENSOMETER_LIBCUDA names, and initialises it. It is never closed: other code of the process may
// use it. Throws CudaError that says what is missing.
std::shared_ptr<const Driver> open_driver();
// The version of CUDA that the driver is of, such as 13000 for 13.0. Throws CudaError.
int version_of(const Driver& driver);

}  // namespace tensometer::cuda
