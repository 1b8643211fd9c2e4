// Elements one by one as values, those of one-byte types too.
#pragma once

#include "byte_value.hpp"
#include "cuda/elements.hpp"

namespace tensometer::cuda {

// An element of any type but the complex ones. A function of its own, so that its code is there once.
TENSOMETER_OUTLINE double value_of(const Tensor& tensor, std::uint64_t i) {
  const Elements elements(tensor, i);
  const unsigned char* p = elements.at(0);
  switch (elements.dtype) {
  case DType::k_float64:
    return load<double>(p);
  case DType::k_float32:
    return static_cast<double>(load<float>(p));
  case DType::k_float16:
    return static_cast<double>(widen(load<float16>(p)));
  case DType::k_bfloat16:
    return static_cast<double>(widen(load<bfloat16>(p)));
  case DType::k_int16:
    return load<std::int16_t>(p);
  case DType::k_uint16:
    return load<std::uint16_t>(p);
  case DType::k_int32:
    return load<std::int32_t>(p);
  case DType::k_uint32:
    return load<std::uint32_t>(p);
  case DType::k_int64:
    return static_cast<double>(load<std::int64_t>(p));
  case DType::k_uint64:
    return static_cast<double>(load<std::uint64_t>(p));
  default:
    return value_of_byte(elements.dtype, *p);
  }
}

}  // namespace tensometer::cuda
