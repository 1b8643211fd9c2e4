// libcuda.so.1 for machines without a GPU: what driver.hpp names, over a device that is emulated. An image is the words
// "tensometer fake image" or a fatbin; its kernels are those of kernels.cu.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <mutex>
#include <tuple>
#include <vector>

#include "cuda/kernels.cu"
#include "fake_device.hpp"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace tensometer::fake {
namespace {

using namespace tensometer::cuda;
using constants::error_invalid_value;

constexpr Status invalid_image = 200, invalid_context = 201, no_device = 100, not_found = 500,
                 unsupported_in_capture = 900;
constexpr int plain_shared_bytes = 48 << 10;
constexpr char image_tag[] = "tensometer fake image";
constexpr std::uint32_t fatbin_tag = 0xba55ed50;

bool is_image(const void* image) {
  std::uint32_t first = 0;
  std::memcpy(&first, image, sizeof first);
  return first == fatbin_tag || std::memcmp(image, image_tag, sizeof image_tag - 1) == 0;
}

std::mutex mutex;
thread_local std::vector<ContextHandle> contexts;
thread_local unsigned capture_mode = 0;
// A function's handle is its place here, from 1.
constexpr const char* kernel_names[] = {"tensometer_reduce", "tensometer_finish", "tensometer_compare",
                                        "tensometer_finish_pairs", "tensometer_histogram"};
std::map<FunctionHandle, int> shared_bytes;  // of those that were given more than is plain

template <class Handle>
Handle handle(std::uintptr_t number) {
  return reinterpret_cast<Handle>(number);
}

void* address(DevicePointer pointer) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(pointer)); }

enum Needs : unsigned { nothing = 0, context = 1, no_capture = 2 };

// What every call begins with: it is counted, and fails if it is told to.
template <class Body>
Status call(const char* name, unsigned needs, Body&& body) {
  const std::lock_guard lock(mutex);
  Device& device = Device::the();
  ++device.counts[name];
  if (++device.calls == static_cast<std::uint64_t>(device.settings.fail_at)) {
    const auto error = static_cast<Status>(device.settings.error);
    if (error >= 700 && error < 720) device.sticky = error;
    return error;
  }
  if (device.sticky != 0) return device.sticky;
  if ((needs & context) != 0 && contexts.empty()) return invalid_context;
  if ((needs & no_capture) != 0 && device.settings.capturing != 0 && capture_mode != constants::capture_relaxed) {
    return unsupported_in_capture;
  }
  try {
    return body(device);
  } catch (const std::exception&) {
    return 999;
  }
}

// What a kernel is given, read now, as a driver does; the kernel runs later.
class Parameters {
 public:
  explicit Parameters(void** parameters) : parameters_(parameters) {}
  template <class T>
  Parameters& operator>>(T& value) {
    std::memcpy(&value, *parameters_++, sizeof value);
    return *this;
  }

 private:
  void** parameters_;
};

template <class... Values>
std::function<void()> bound(void (*kernel)(Values...), void** parameters) {
  std::tuple<Values...> values;
  Parameters from(parameters);
  std::apply([&](Values&... value) { (from >> ... >> value); }, values);
  return [kernel, values] { std::apply(kernel, values); };
}

std::function<void()> bound(FunctionHandle function, void** parameters) {
  switch (reinterpret_cast<std::uintptr_t>(function)) {
  case 1:
    return bound(&tensometer_reduce, parameters);
  case 2:
    return bound(&tensometer_finish, parameters);
  case 3:
    return bound(&tensometer_compare, parameters);
  case 4:
    return bound(&tensometer_finish_pairs, parameters);
  default:
    return bound(&tensometer_histogram, parameters);
  }
}

// How many words of bins a finishing kernel has stored in the host's memory, to be asked when it has run.
std::function<std::uint64_t()> stored_words(FunctionHandle function, void** parameters) {
  const auto number = reinterpret_cast<std::uintptr_t>(function);
  if (number != 2 && number != 4) return [] { return std::uint64_t{0}; };
  Output output;  // of pairs the same, but for what results are
  std::memcpy(&output, parameters[number == 2 ? 4 : 3], sizeof output);
  return [output] { return output.used[0] + output.used[1]; };
}

Status named(Status status, const char** text, bool name) {
  const std::map<Status, std::pair<const char*, const char*>> known = {
      {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
      {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
      {3, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
      {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
      {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
      {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
      {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
      {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
      {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}}};
  const auto found = known.find(status);
  if (found == known.end()) return error_invalid_value;
  *text = name ? found->second.first : found->second.second;
  return 0;
}

Status attribute_of(Device& device, int* value, Attribute which) {
  const std::map<Attribute, long> values = {{constants::device_processors, 2},
                                            {constants::device_threads, 2048},
                                            {constants::device_unified_addressing, 1},
                                            {constants::device_capability_major, device.settings.major},
                                            {constants::device_capability_minor, device.settings.minor},
                                            {constants::device_shared_bytes, 227 << 10}};
  const auto found = values.find(which);
  if (found == values.end()) return error_invalid_value;
  *value = static_cast<int>(found->second);
  return 0;
}

}  // namespace
}  // namespace tensometer::fake

using namespace tensometer::fake;
using namespace tensometer::cuda;

EXPORTED Status cuInit(unsigned) {
  return call("cuInit", nothing, [](Device& device) { return device.settings.devices == 0 ? no_device : Status{0}; });
}
EXPORTED Status cuDriverGetVersion(int* version) {
  return call("cuDriverGetVersion", nothing,
              [&](Device& device) { return *version = static_cast<int>(device.settings.version), Status{0}; });
}
EXPORTED Status cuGetErrorName(Status status, const char** text) { return named(status, text, true); }
EXPORTED Status cuGetErrorString(Status status, const char** text) { return named(status, text, false); }
EXPORTED Status cuDeviceGetCount(int* count) {
  return call("cuDeviceGetCount", nothing,
              [&](Device& device) { return *count = static_cast<int>(device.settings.devices), Status{0}; });
}
EXPORTED Status cuDeviceGet(int* out, int ordinal) {
  return call("cuDeviceGet", nothing, [&](Device&) { return *out = ordinal, Status{0}; });
}
EXPORTED Status cuDeviceGetName(char* name, int size, int) {
  return call("cuDeviceGetName", nothing,
              [&](Device&) { return std::strncpy(name, "Fake GPU", static_cast<std::size_t>(size)), Status{0}; });
}
EXPORTED Status cuDeviceGetAttribute(int* value, Attribute which, int) {
  return call("cuDeviceGetAttribute", nothing, [&](Device& device) { return attribute_of(device, value, which); });
}
EXPORTED Status cuDevicePrimaryCtxRetain(ContextHandle* out, int ordinal) {
  return call("cuDevicePrimaryCtxRetain", nothing, [&](Device& device) {
    ++device.retained;
    *out = handle<ContextHandle>(1000 + static_cast<std::uintptr_t>(ordinal));
    return Status{0};
  });
}
EXPORTED Status cuDevicePrimaryCtxRelease_v2(int) {
  return call("cuDevicePrimaryCtxRelease_v2", nothing, [](Device& device) { return --device.retained, Status{0}; });
}
EXPORTED Status cuCtxPushCurrent_v2(ContextHandle pushed) {
  return call("cuCtxPushCurrent_v2", nothing, [&](Device&) { return contexts.push_back(pushed), Status{0}; });
}
EXPORTED Status cuCtxPopCurrent_v2(ContextHandle* popped) {
  return call("cuCtxPopCurrent_v2", context, [&](Device&) {
    *popped = contexts.back();
    contexts.pop_back();
    return Status{0};
  });
}
EXPORTED Status cuThreadExchangeStreamCaptureMode(unsigned* mode) {
  return call("cuThreadExchangeStreamCaptureMode", nothing,
              [&](Device&) { return std::swap(*mode, capture_mode), 0u; });
}
EXPORTED Status cuModuleLoadData(ModuleHandle* out, const void* image) {
  return call("cuModuleLoadData", context | no_capture, [&](Device& device) {
    if (!is_image(image)) return invalid_image;
    ++device.modules;
    *out = handle<ModuleHandle>(1);
    return Status{0};
  });
}
EXPORTED Status cuModuleUnload(ModuleHandle) {
  return call("cuModuleUnload", context | no_capture, [](Device& device) { return --device.modules, Status{0}; });
}
EXPORTED Status cuModuleGetFunction(FunctionHandle* out, ModuleHandle, const char* name) {
  return call("cuModuleGetFunction", context, [&](Device&) {
    const auto* found = std::find_if(std::begin(kernel_names), std::end(kernel_names),
                                     [&](const char* kernel) { return std::strcmp(kernel, name) == 0; });
    if (found == std::end(kernel_names)) return not_found;
    *out = handle<FunctionHandle>(static_cast<std::uintptr_t>(found - kernel_names) + 1);
    return Status{0};
  });
}
EXPORTED Status cuFuncSetAttribute(FunctionHandle function, Attribute which, int value) {
  return call("cuFuncSetAttribute", context, [&](Device&) {
    if (which != constants::function_shared_bytes) return error_invalid_value;
    shared_bytes[function] = value;
    return 0u;
  });
}
EXPORTED Status cuLaunchKernel(FunctionHandle function, unsigned x, unsigned y, unsigned z, unsigned threads,
                               unsigned threads_y, unsigned threads_z, unsigned shared, StreamHandle stream,
                               void** parameters, void**) {
  return call("cuLaunchKernel", context, [&](Device& device) {
    const auto given = shared_bytes.find(function);
    const auto most = static_cast<unsigned>(given == shared_bytes.end() ? plain_shared_bytes : given->second);
    if (x == 0 || y != 1 || z != 1 || threads == 0 || threads > 1024 || threads_y != 1 || threads_z != 1 ||
        shared > most) {
      return error_invalid_value;
    }
    const tensometer::emulation::Launch grid{x, threads, shared, tensometer::emulation::Schedule::random,
                                             device.random()};
    device.enqueue(stream,
                   {[&device, grid, kernel = bound(function, parameters), words = stored_words(function, parameters)] {
                      tensometer::emulation::launch(grid, kernel);
                      device.counts["bytes to the host"] += words() * sizeof(BinWord);
                    },
                    {}});
    return 0u;
  });
}
EXPORTED Status cuMemAlloc_v2(DevicePointer* out, std::size_t bytes) {
  return call("cuMemAlloc_v2", context | no_capture, [&](Device& device) {
    void* pointer = nullptr;
    const Status status = device.alloc(bytes, false, &pointer);
    *out = reinterpret_cast<std::uintptr_t>(pointer);
    return status;
  });
}
EXPORTED Status cuMemFree_v2(DevicePointer pointer) {
  return call("cuMemFree_v2", context | no_capture,
              [&](Device& device) { return device.free(address(pointer), false); });
}
EXPORTED Status cuMemHostAlloc(void** out, std::size_t bytes, unsigned) {
  return call("cuMemHostAlloc", context | no_capture, [&](Device& device) { return device.alloc(bytes, true, out); });
}
EXPORTED Status cuMemFreeHost(void* pointer) {
  return call("cuMemFreeHost", context | no_capture, [&](Device& device) { return device.free(pointer, true); });
}
EXPORTED Status cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, std::size_t bytes, StreamHandle stream) {
  return call("cuMemcpyHtoDAsync_v2", context, [&](Device& device) {
    const bool pinned = device.find(reinterpret_cast<Address>(from), bytes, true) != nullptr;
    if (!pinned || device.find(to, bytes, false) == nullptr) return error_invalid_value;
    device.enqueue(stream, {[=] { std::memcpy(address(to), from, bytes); }, {}});
    return 0u;
  });
}
EXPORTED Status cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, std::size_t bytes, StreamHandle stream) {
  return call("cuMemcpyDtoHAsync_v2", context, [&](Device& device) {
    const bool pinned = device.find(reinterpret_cast<Address>(to), bytes, true) != nullptr;
    const bool known = device.find(from, bytes, false) != nullptr || device.settings.adopt != 0;
    if (!pinned || !known) return error_invalid_value;
    device.counts["bytes to the host"] += bytes;
    std::memset(to, 0x5a, bytes);  // unknown until it is done: who reads too early shall see it
    device.enqueue(stream, {[=] { std::memcpy(to, address(from), bytes); }, {}});
    return 0u;
  });
}
EXPORTED Status cuMemsetD8Async(DevicePointer to, unsigned char value, std::size_t bytes, StreamHandle stream) {
  return call("cuMemsetD8Async", context, [&](Device& device) {
    if (device.find(to, bytes, false) == nullptr) return error_invalid_value;
    device.enqueue(stream, {[=] { std::memset(address(to), value, bytes); }, {}});
    return 0u;
  });
}
EXPORTED Status cuEventCreate(EventHandle* out, unsigned) {
  return call("cuEventCreate", context, [&](Device& device) {
    auto event = std::make_shared<Event>();
    *out = reinterpret_cast<EventHandle>(event.get());
    device.events[*out] = std::move(event);
    return 0u;
  });
}
EXPORTED Status cuEventDestroy_v2(EventHandle event) {
  return call("cuEventDestroy_v2", context,
              [&](Device& device) { return device.events.erase(event) == 1 ? 0u : error_invalid_value; });
}
EXPORTED Status cuEventRecord(EventHandle event, StreamHandle stream) {
  return call("cuEventRecord", context, [&](Device& device) {
    const std::shared_ptr<Event> recorded = device.events.at(event);
    const std::uint64_t turn = ++recorded->recorded;
    device.enqueue(stream, {[=] { recorded->done = turn; }, {}});
    return 0u;
  });
}
EXPORTED Status cuEventQuery(EventHandle event) {
  return call("cuEventQuery", no_capture, [&](Device& device) {
    device.advance_somewhat();
    const Event& asked = *device.events.at(event);
    return device.sticky != 0 ? device.sticky : asked.done == asked.recorded ? 0u : constants::error_not_ready;
  });
}
EXPORTED Status cuEventSynchronize(EventHandle event) {
  return call("cuEventSynchronize", no_capture, [&](Device& device) {
    const Event& asked = *device.events.at(event);
    device.advance([&] { return asked.done == asked.recorded; });
    return device.sticky != 0 ? device.sticky : asked.done == asked.recorded ? 0u : Status{999};
  });
}
EXPORTED Status cuStreamWaitEvent(StreamHandle stream, EventHandle event, unsigned) {
  return call("cuStreamWaitEvent", context, [&](Device& device) {
    const std::shared_ptr<Event> awaited = device.events.at(event);
    device.enqueue(stream, {[] {}, [awaited, turn = awaited->recorded] { return awaited->done >= turn; }});
    return 0u;
  });
}
EXPORTED Status cuStreamIsCapturing(StreamHandle stream, unsigned* state) {
  return call("cuStreamIsCapturing", context, [&](Device& device) {
    if (stream != nullptr && stream == handle<StreamHandle>(static_cast<std::uintptr_t>(device.settings.foreign))) {
      return constants::error_invalid_handle;
    }
    const bool captures = device.settings.capturing != 0;
    if (captures && stream == nullptr) return constants::error_capture_implicit;
    *state = captures && stream == handle<StreamHandle>(static_cast<std::uintptr_t>(device.settings.capturing)) ? 1 : 0;
    return 0u;
  });
}
EXPORTED Status cuPointerGetAttribute(void* out, Attribute which, DevicePointer pointer) {
  return call("cuPointerGetAttribute", nothing, [&](Device& device) {
    const Pages* pages = device.find(pointer, 1, false);
    const bool known = pages != nullptr || device.settings.adopt != 0;
    if (!known || which != constants::pointer_device) return error_invalid_value;
    const int owner = static_cast<int>(pages != nullptr ? pages->owner : device.settings.owner);
    std::memcpy(out, &owner, sizeof owner);
    return 0u;
  });
}

// For tests alone: they neither count nor fail.
EXPORTED void tensometer_fake_reset() {
  const std::lock_guard lock(mutex);
  Device::the().reset();
  contexts.clear();  // those that a failed call left behind
  capture_mode = 0;
}
EXPORTED std::uint64_t tensometer_fake_count(const char* name) {
  const std::lock_guard lock(mutex);
  if (std::strcmp(name, "contexts") == 0) return contexts.size();  // of this thread, as is the mode
  if (std::strcmp(name, "capture mode") == 0) return capture_mode;
  return Device::the().count(name);
}
EXPORTED void* tensometer_fake_upload(const void* from, std::size_t bytes) {
  const std::lock_guard lock(mutex);
  void* pointer = nullptr;
  if (Device::the().alloc(bytes, false, &pointer) != 0) return nullptr;
  Device::the().write(pointer, from, bytes);
  return pointer;
}
// All that is under way is done, as it is to whom waits in the order of the streams.
EXPORTED void tensometer_fake_finish() {
  const std::lock_guard lock(mutex);
  Device::the().advance([] { return false; });
}
EXPORTED void tensometer_fake_free(void* pointer) {
  const std::lock_guard lock(mutex);
  Device::the().free(pointer, false);
}

#define TENSOMETER_SAME(member, symbol, parameters) static_assert(std::is_same_v<decltype(symbol), Status parameters>);
TENSOMETER_DRIVER_FUNCTIONS(TENSOMETER_SAME)
