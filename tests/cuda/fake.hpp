// The fake driver as tests see it, and tensors in its memory.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "../core/data.hpp"
#include "cuda/launcher.hpp"

namespace tensometer::fake {

// TENSOMETER_LIBCUDA, or the libcuda.so.1 that lies beside the tests; it is set from here on.
inline const std::string& library_path() {
  static const std::string path = [] {
    if (const char* named = std::getenv("TENSOMETER_LIBCUDA")) return std::string(named);
    char self[4096] = {};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) throw std::runtime_error("/proc/self/exe is no link");
    std::string beside(self);
    return beside.substr(0, beside.rfind('/')) + "/libcuda.so.1";
  }();
  return path;
}

inline void* library() {
  static void* const opened = dlopen(library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) throw std::runtime_error(dlerror());
  return opened;
}

template <class Signature>
Signature* symbol(const char* name) {
  auto* found = reinterpret_cast<Signature*>(dlsym(library(), name));
  if (found == nullptr) throw std::runtime_error(std::string(name) + " is not in the fake driver");
  return found;
}

// Counts begin at 0, and the settings are these.
inline void reset(const std::string& settings = "") {
  setenv("TENSOMETER_LIBCUDA", library_path().c_str(), 1);
  setenv("TENSOMETER_FAKE", settings.c_str(), 1);
  symbol<void()>("tensometer_fake_reset")();
}

inline std::uint64_t count(const char* name) {
  return symbol<std::uint64_t(const char*)>("tensometer_fake_count")(name);
}

// A tensor twice: in the host's memory, and in the device's.
class Twin {
 public:
  explicit Twin(const TensorView& view, std::vector<std::byte> bytes, std::size_t offset = 0)
      : bytes_(std::move(bytes)), host(view), device(view) {
    host.data = bytes_.data() + offset;
    device.data = nullptr;
    if (bytes_.empty()) return;
    memory_ = symbol<void*(const void*, std::size_t)>("tensometer_fake_upload")(bytes_.data(), bytes_.size());
    device.data = static_cast<const std::byte*>(memory_) + offset;
  }
  ~Twin() {
    if (memory_ != nullptr) symbol<void(void*)>("tensometer_fake_free")(memory_);
  }
  Twin(const Twin&) = delete;
  Twin& operator=(const Twin&) = delete;

 private:
  std::vector<std::byte> bytes_;
  void* memory_ = nullptr;

 public:
  TensorView host, device;
};

// Some tensors, and what is known of them.
struct Twins {
  std::vector<std::unique_ptr<Twin>> tensors;

  void add(DType dtype, std::vector<std::byte> bytes, std::vector<std::int64_t> shape) {
    tensors.push_back(std::make_unique<Twin>(contiguous(nullptr, dtype, std::move(shape)), std::move(bytes)));
  }
  std::vector<TensorView> on_device() const {
    std::vector<TensorView> views;
    for (const auto& tensor : tensors) views.push_back(tensor->device);
    return views;
  }
  std::vector<TensorSummary> expected(const Options& options) const {
    std::vector<TensorSummary> summaries;
    for (const auto& tensor : tensors) summaries.push_back(summarize_one(tensor->host, options));
    return summaries;
  }
};

// Several types, lengths and layouts; others for another seed.
inline std::unique_ptr<Twins> some_tensors(std::uint64_t seed) {
  auto twins = std::make_unique<Twins>();
  const auto length = static_cast<std::int64_t>(4000 + 97 * (seed % 8));
  const auto size = static_cast<std::size_t>(length);
  twins->add(DType::k_float32, bytes_of(ordinary_elements<float>(size, seed)), {length});
  twins->add(DType::k_bfloat16, bytes_of(wild_elements<bfloat16>(2 * size, seed)), {2, length});
  twins->add(DType::k_int8, random_bytes(size, seed), {length});
  twins->add(DType::k_float64, {}, {0, 3});
  twins->add(DType::k_int64, bytes_of(wild_elements<std::int64_t>(100, seed)), {10, 10});
  twins->add(DType::k_float8_e4m3fn, random_bytes(50, seed), {50});
  TensorView rows = contiguous(nullptr, DType::k_float32, {30, 30});
  rows.strides[1] = 8, rows.strides[0] = -240;
  twins->tensors.push_back(
      std::make_unique<Twin>(rows, bytes_of(ordinary_elements<float>(30 * 60, seed + 1)), std::size_t{29 * 240}));
  return twins;
}

inline cuda::Images image() {
  return [](int, int) {
    static constexpr char tag[] = "tensometer fake image";
    return std::as_bytes(std::span(tag));
  };
}

inline cuda::StreamHandle stream(std::uintptr_t number) { return reinterpret_cast<cuda::StreamHandle>(number); }

}  // namespace tensometer::fake
