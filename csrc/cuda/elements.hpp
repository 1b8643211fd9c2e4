// Reading elements of a tensor in device memory, one by one: any type, any layout, any alignment of whole elements.
#pragma once

#include "cuda/abi.hpp"
#include "cuda/device.hpp"
#include "dtype.hpp"
#include "magnitude.hpp"

namespace tensometer::cuda {

// How a type is reduced; without a table in memory.
TENSOMETER_DEVICE Lanes lanes_of(DType dtype) {
  switch (dtype) {
#define TENSOMETER_ROW(name, storage, lanes) \
  case DType::k_##name:                      \
    return Lanes::lanes;
    TENSOMETER_DTYPES(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  }
  return Lanes::f64;
}

TENSOMETER_DEVICE std::uint32_t item_size_of(DType dtype) {
  switch (dtype) {
#define TENSOMETER_ROW(name, storage, lanes) \
  case DType::k_##name:                      \
    return sizeof(storage);
    TENSOMETER_DTYPES(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  }
  return 0;
}

// The elements of a tensor from one on.
struct Elements {
  const Tensor& tensor;
  const unsigned char* data;
  std::uint64_t first;
  DType dtype;
  std::uint32_t item_size;

  TENSOMETER_DEVICE Elements(const Tensor& of, std::uint64_t from)
      : tensor(of), data(static_cast<const unsigned char*>(of.data)), first(from), dtype(static_cast<DType>(of.dtype)),
        item_size(item_size_of(dtype)) {}

  TENSOMETER_DEVICE bool dense() const { return tensor.dims == 0; }

  TENSOMETER_DEVICE const unsigned char* at(std::uint64_t i) const {
    i += first;
    if (dense()) return data + i * item_size;
    std::int64_t offset = 0;
#pragma unroll 1
    for (unsigned dim = tensor.dims; dim-- > 0;) {
      offset += static_cast<std::int64_t>(i % tensor.extent[dim]) * tensor.stride[dim];
      i /= tensor.extent[dim];
    }
    return data + offset;
  }
};

// What one thread loads at a time where it can.
struct alignas(16) Words {
  std::uint32_t word[4];
};

// Of memory that no kernel writes. The compiler need not know that it is the tensor's to load it as global memory.
TENSOMETER_DEVICE Words load_words(const unsigned char* p) {
#ifdef __CUDACC__
  return std::bit_cast<Words>(__ldg(reinterpret_cast<const uint4*>(p)));
#else
  return *reinterpret_cast<const Words*>(p);
#endif
}

template <class T>
TENSOMETER_DEVICE T load(const unsigned char* p) {
  return *reinterpret_cast<const T*>(p);
}

TENSOMETER_DEVICE double magnitude(double re, double im) {
  re = std::fabs(re), im = std::fabs(im);
  const double size = std::sqrt(re * re + im * im);
  return size >= smallest_unscaled<double> && size < largest_unscaled<double> ? size : careful_magnitude(re, im);
}

// An element that is no byte, as float64: exact but for 64-bit integers, which have float64 lanes.
TENSOMETER_DEVICE double read(const Elements& elements, std::uint32_t i) {
  const unsigned char* p = elements.at(i);
  switch (elements.dtype) {
  case DType::k_complex64:
    return magnitude(load<float>(p), load<float>(p + sizeof(float)));
  case DType::k_complex128:
    return magnitude(load<double>(p), load<double>(p + sizeof(double)));
#define TENSOMETER_ROW(name, storage, lanes) TENSOMETER_CASE_##lanes(name, storage)
#define TENSOMETER_CASE_f32(name, storage) \
  case DType::k_##name:                    \
    return static_cast<double>(widen(load<storage>(p)));
#define TENSOMETER_CASE_f64(name, storage) TENSOMETER_CASE_f32(name, storage)
#define TENSOMETER_CASE_table(name, storage)
#define TENSOMETER_CASE_magnitude(name, storage)
    TENSOMETER_DTYPES(TENSOMETER_ROW)
#undef TENSOMETER_ROW
#undef TENSOMETER_CASE_f32
#undef TENSOMETER_CASE_f64
#undef TENSOMETER_CASE_table
#undef TENSOMETER_CASE_magnitude
  default:
    return 0;
  }
}

}  // namespace tensometer::cuda
