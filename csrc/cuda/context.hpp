// One device as the launcher uses it: the primary context, which torch and others use too, and the kernels in it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/driver.hpp"

namespace tensometer::cuda {

// The image of the kernels (a cubin, a fatbin, or PTX that ends in a zero byte) for a compute capability; empty if there is
// none.
using Images = std::function<std::span<const std::byte>(int major, int minor)>;

struct Facts {
  std::string name;
  int major = 0, minor = 0;
  int processors = 0, threads_per_processor = 0, shared_bytes = 0;

  std::uint32_t concurrent() const;  // thread blocks of the reducing kernel that run at a time
};

// Of every device that the driver knows, without a context on any. Throws CudaError.
std::vector<Facts> devices();
// The device whose memory holds the address; nothing if it is no device's. Throws CudaError.
std::optional<int> device_of(const void* data);

class Context {
 public:
  // Retains the primary context. Throws CudaError. Nothing is given back but by release().
  Context(std::shared_ptr<const Driver> driver, int device);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // While it lives, the context is this thread's current one, and a stream capture elsewhere in the process does not mind
  // what is called.
  class Entered {
   public:
    explicit Entered(const Context& context);
    ~Entered();
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;
    void leave();  // throws CudaError; the destructor keeps errors to itself

   private:
    const Context& context_;
    unsigned mode_;
    bool inside_ = false;
  };

  // These need to be entered.
  void load(const Images& images);
  bool loaded() const { return module_ != nullptr; }
  void unload();
  // Throws std::invalid_argument for a stream of another device.
  bool is_capturing(StreamHandle stream) const;
  // Why that is no memory of this device, as "is not in ..."; nothing if it is.
  std::string elsewhere(const void* data) const;

  void launch(FunctionHandle function, std::size_t blocks, unsigned threads, std::size_t shared_bytes,
              StreamHandle stream, void** parameters) const;

  void release();

  const Driver& driver() const { return *driver_; }
  const Facts& facts() const { return facts_; }
  int device() const { return device_; }
  FunctionHandle reduce() const { return reduce_; }
  FunctionHandle finish() const { return finish_; }
  FunctionHandle compare() const { return compare_; }
  FunctionHandle finish_pairs() const { return finish_pairs_; }
  FunctionHandle histogram() const { return histogram_; }

 private:
  void find_functions();

  std::shared_ptr<const Driver> driver_;
  int device_, handle_ = 0;
  ContextHandle context_ = nullptr;
  Facts facts_;
  ModuleHandle module_ = nullptr;
  FunctionHandle reduce_ = nullptr, finish_ = nullptr, compare_ = nullptr, finish_pairs_ = nullptr,
                 histogram_ = nullptr;
};

// Memory that grows, of the device or pinned. What it grew out of is kept until release(): to give memory back would wait for
// all that the device has to do.
class Memory {
 public:
  template <class Pointer>
  struct Buffer {
    Pointer pointer{};
    std::size_t bytes = 0;
  };
  using OnDevice = Buffer<DevicePointer>;
  using Pinned = Buffer<std::byte*>;

  explicit Memory(std::shared_ptr<const Driver> driver) : driver_(std::move(driver)) {}
  // Makes room for so many bytes; true if the buffer is a new one, of unknown contents.
  bool grow(OnDevice& buffer, std::size_t bytes);
  bool grow(Pinned& buffer, std::size_t bytes);
  void release();

 private:
  std::shared_ptr<const Driver> driver_;
  std::vector<DevicePointer> on_device_;
  std::vector<void*> pinned_;
};

}  // namespace tensometer::cuda
