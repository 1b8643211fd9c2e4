#include "cuda/context.hpp"

#include <algorithm>
#include <utility>

#include "cuda/pair_tables.hpp"

namespace tensometer::cuda {
namespace {

// Thread blocks of the reducing kernel that its registers let a processor hold (its launch bounds).
constexpr int resident_blocks = 4;
// What a kernel may have of shared memory without asking.
constexpr int plain_shared_bytes = 48 << 10;
constexpr int most_shared_bytes = sizeof(Shared) + counters_of(shared_resolution) * sizeof(std::uint32_t);
static_assert(sizeof(PairShared) + counters_of(shared_resolution) * sizeof(std::uint32_t) <= plain_shared_bytes);

std::string device_words(int device) { return "device " + std::to_string(device); }

std::size_t grown(std::size_t bytes, std::size_t before) {
  constexpr std::size_t least = 4096;
  return std::max({bytes, before + before / 2, least});
}

int device_count(const Driver& driver) {
  int count = 0;
  driver.call(driver.device_count, &count);
  return count;
}

int attribute(const Driver& driver, int handle, Attribute which) {
  int value = 0;
  driver.call(driver.device_attribute, &value, which, handle);
  return value;
}

Facts facts_of(const Driver& driver, int handle) {
  char name[256] = {};
  driver.call(driver.device_name, name, static_cast<int>(sizeof name), handle);
  return {name,
          attribute(driver, handle, constants::device_capability_major),
          attribute(driver, handle, constants::device_capability_minor),
          attribute(driver, handle, constants::device_processors),
          attribute(driver, handle, constants::device_threads),
          attribute(driver, handle, constants::device_shared_bytes)};
}

// Whose memory that is; nothing if no device's.
std::optional<int> owner_of(const Driver& driver, const void* data) {
  int owner = 0;
  const auto address = static_cast<DevicePointer>(reinterpret_cast<std::uintptr_t>(data));
  const Status status = driver.pointer_attribute.pointer(&owner, constants::pointer_device, address);
  if (status == constants::error_invalid_value) return std::nullopt;
  if (status != 0) driver.fail(driver.pointer_attribute.name, status);
  return owner;
}

}  // namespace

std::vector<Facts> devices() {
  const std::shared_ptr<const Driver> driver = open_driver();
  std::vector<Facts> all;
  for (int device = 0, count = device_count(*driver); device < count; ++device) {
    int handle = 0;
    driver->call(driver->device_get, &handle, device);
    all.push_back(facts_of(*driver, handle));
  }
  return all;
}

std::optional<int> device_of(const void* data) {
  check_process();
  static const std::shared_ptr<const Driver> driver = open_driver();  // again, if that throws
  return owner_of(*driver, data);
}

std::uint32_t Facts::concurrent() const {
  const int resident = std::clamp(threads_per_processor / static_cast<int>(reduce_threads), 1, resident_blocks);
  return static_cast<std::uint32_t>(std::max(processors, 1) * resident);
}

Context::Context(std::shared_ptr<const Driver> driver, int device) : driver_(std::move(driver)), device_(device) {
  const int count = device_count(*driver_);
  if (device < 0 || device >= count) {
    throw CudaError("cuda: there is no " + device_words(device) + ": the driver knows " + std::to_string(count), 0);
  }
  driver_->call(driver_->device_get, &handle_, device);
  facts_ = facts_of(*driver_, handle_);
  if (attribute(*driver_, handle_, constants::device_unified_addressing) == 0) {
    throw CudaError("cuda: " + device_words(device) + " (" + facts_.name + ") has no unified addressing", 0);
  }
  driver_->allocate(driver_->context_retain, &context_, handle_);
}

Context::Entered::Entered(const Context& context) : context_(context), mode_(constants::capture_relaxed) {
  const Driver& driver = context.driver();
  driver.call(driver.context_push, context.context_);
  inside_ = true;
  if (const Status status = driver.capture_mode.pointer(&mode_); status != 0) {
    ContextHandle popped = nullptr;
    driver.context_pop.pointer(&popped);
    driver.fail(driver.capture_mode.name, status);
  }
}

Context::Entered::~Entered() {
  if (!inside_) return;
  const Driver& driver = context_.driver();
  ContextHandle popped = nullptr;
  driver.capture_mode.pointer(&mode_);
  driver.context_pop.pointer(&popped);
}

void Context::Entered::leave() {
  const Driver& driver = context_.driver();
  ContextHandle popped = nullptr;
  inside_ = false;
  const Status mode = driver.capture_mode.pointer(&mode_);
  driver.call(driver.context_pop, &popped);
  if (mode != 0) driver.fail(driver.capture_mode.name, mode);
}

void Context::load(const Images& images) {
  const std::span<const std::byte> image = images(facts_.major, facts_.minor);
  if (image.empty()) {
    throw CudaError("cuda: this build has no kernels for " + device_words(device_) + " (" + facts_.name +
                        ", compute capability " + std::to_string(facts_.major) + "." + std::to_string(facts_.minor) +
                        ")",
                    0);
  }
  try {
    driver_->allocate(driver_->module_load, &module_, image.data());
  } catch (const OutOfMemory&) {
    throw;
  } catch (const CudaError& error) {
    const int version = version_of(*driver_);
    throw CudaError(std::string(error.what()) + "; the driver is of CUDA " + std::to_string(version / 1000) + "." +
                        std::to_string(version % 1000 / 10),
                    error.status());
  }
  try {
    find_functions();
  } catch (const OutOfMemory&) {
    unload();
    throw;
  }
}

// The driver loads a kernel here, not with its module.
void Context::find_functions() {
  driver_->allocate(driver_->module_function, &reduce_, module_, "tensometer_reduce");
  driver_->allocate(driver_->module_function, &finish_, module_, "tensometer_finish");
  driver_->allocate(driver_->module_function, &compare_, module_, "tensometer_compare");
  driver_->allocate(driver_->module_function, &finish_pairs_, module_, "tensometer_finish_pairs");
  driver_->allocate(driver_->module_function, &histogram_, module_, "tensometer_histogram");
  if (most_shared_bytes <= plain_shared_bytes) return;
  if (most_shared_bytes > facts_.shared_bytes) {
    throw CudaError("cuda: " + device_words(device_) + " (" + facts_.name + ") gives a kernel " +
                        std::to_string(facts_.shared_bytes) + " bytes of shared memory, " +
                        std::to_string(most_shared_bytes) + " are needed",
                    0);
  }
  driver_->allocate(driver_->function_set, reduce_, constants::function_shared_bytes, most_shared_bytes);
}

void Context::unload() {
  if (module_ != nullptr) driver_->call(driver_->module_unload, std::exchange(module_, nullptr));
}

void Context::release() { driver_->call(driver_->context_release, handle_); }

bool Context::is_capturing(StreamHandle stream) const {
  unsigned state = constants::capture_none;
  const Status status = driver_->stream_capturing.pointer(stream, &state);
  // Asked of the legacy stream while another one captures that it would wait for.
  if (status == constants::error_capture_implicit) return true;
  // The first thing that is asked of a stream. One that a library names is no fault of the device.
  if (status == constants::error_invalid_handle || status == constants::error_invalid_context) {
    throw std::invalid_argument("cuda: the stream is none of " + device_words(device_) + ", on which the tensor lies");
  }
  if (status != 0) driver_->fail(driver_->stream_capturing.name, status);
  return state != constants::capture_none;
}

std::string Context::elsewhere(const void* data) const {
  const std::optional<int> owner = owner_of(*driver_, data);
  if (!owner) return "is not in the memory of a CUDA device";
  if (*owner == device_) return "";
  return "is in the memory of CUDA " + device_words(*owner) + ", not of " + device_words(device_);
}

void Context::launch(FunctionHandle function, std::size_t blocks, unsigned threads, std::size_t shared_bytes,
                     StreamHandle stream, void** parameters) const {
  driver_->call(driver_->launch, function, static_cast<unsigned>(blocks), 1u, 1u, threads, 1u, 1u,
                static_cast<unsigned>(shared_bytes), stream, parameters, static_cast<void**>(nullptr));
}

bool Memory::grow(OnDevice& buffer, std::size_t bytes) {
  if (bytes <= buffer.bytes) return false;
  const std::size_t size = grown(bytes, buffer.bytes);
  on_device_.reserve(on_device_.size() + 1);
  DevicePointer pointer = 0;
  driver_->allocate(driver_->memory_alloc, &pointer, size);
  on_device_.push_back(pointer);
  buffer = {pointer, size};
  return true;
}

bool Memory::grow(Pinned& buffer, std::size_t bytes) {
  if (bytes <= buffer.bytes) return false;
  const std::size_t size = grown(bytes, buffer.bytes);
  pinned_.reserve(pinned_.size() + 1);
  void* pointer = nullptr;
  driver_->allocate(driver_->host_alloc, &pointer, size, constants::host_portable | constants::host_mapped);
  pinned_.push_back(pointer);
  buffer = {static_cast<std::byte*>(pointer), size};
  return true;
}

void Memory::release() {
  for (; !on_device_.empty(); on_device_.pop_back()) driver_->call(driver_->memory_free, on_device_.back());
  for (; !pinned_.empty(); pinned_.pop_back()) driver_->call(driver_->host_free, pinned_.back());
}

}  // namespace tensometer::cuda
