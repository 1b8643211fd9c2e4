// Test data and what several tests share: random elements, memory of exact size, element types, references.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "block.hpp"
#include "check.hpp"
#include "dispatch.hpp"
#include "layout.hpp"
#include "reduce.hpp"

namespace tensometer {

// SplitMix64: small, and the same numbers everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  std::uint64_t below(std::uint64_t limit) { return bits() % limit; }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  // In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // Mean 0, standard deviation 1, bell-shaped.
  double bell() { return (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508075688772; }

 private:
  std::uint64_t state_;
};

// `bytes` of heap memory at `offset` bytes from a 64-byte border, ending where the allocation ends: AddressSanitizer
// sees every read past it.
class ExactMemory {
 public:
  explicit ExactMemory(std::size_t bytes, std::size_t offset = 0) : offset_(offset) {
    if (posix_memalign(&memory_, 64, offset + bytes) != 0) throw std::bad_alloc();
  }
  ExactMemory(const void* from, std::size_t bytes, std::size_t offset = 0) : ExactMemory(bytes, offset) {
    if (bytes != 0) std::memcpy(data(), from, bytes);
  }
  ~ExactMemory() { std::free(memory_); }
  ExactMemory(const ExactMemory&) = delete;
  ExactMemory& operator=(const ExactMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(memory_) + offset_; }

 private:
  void* memory_ = nullptr;
  std::size_t offset_;
};

// While it lives, the whole process uses that instruction set.
class Forced {
 public:
  explicit Forced(std::string_view name) : before_(select_instruction_set(name)) {}
  ~Forced() { select_instruction_set(before_); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  std::string before_;
};

// Calls body.operator()<storage>(dtype) for every type that is reduced in lanes.
template <class Body>
void for_each_lane_type(Body&& body) {
#define TENSOMETER_CALL_f32(name, storage) body.template operator()<storage>(DType::k_##name);
#define TENSOMETER_CALL_f64(name, storage) TENSOMETER_CALL_f32(name, storage)
#define TENSOMETER_CALL_table(name, storage)
#define TENSOMETER_CALL_magnitude(name, storage)
#define TENSOMETER_ROW(name, storage, lanes) TENSOMETER_CALL_##lanes(name, storage)
  TENSOMETER_DTYPES(TENSOMETER_ROW)
#undef TENSOMETER_ROW
#undef TENSOMETER_CALL_f32
#undef TENSOMETER_CALL_f64
#undef TENSOMETER_CALL_table
#undef TENSOMETER_CALL_magnitude
}

inline std::vector<DType> all_types() {
  std::vector<DType> types;
  for (std::size_t i = 0; i < dtype_count; ++i) types.push_back(static_cast<DType>(i));
  return types;
}

// Any pattern at all.
template <class T>
T wild(Random& random) {
  const std::uint64_t bits = random.bits();
  T element;
  std::memcpy(&element, &bits, sizeof element);
  return element;
}

// What tensors hold: magnitudes of about 1, both signs, one in sixteen a zero, sometimes -0. Integers of every size.
template <class T>
T ordinary(Random& random) {
  if (random.below(16) == 0) return T{};
  const std::uint64_t bits = random.bits(), sign = bits & 1;
  if constexpr (std::is_same_v<T, float16>) {
    if (bits >> 58 == 0) return {static_cast<std::uint16_t>(sign << 15)};
    return {static_cast<std::uint16_t>(sign << 15 | (8 + (bits >> 1) % 12) << 10 | (bits >> 40 & 1023))};
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    if (bits >> 58 == 0) return {static_cast<std::uint16_t>(sign << 15)};
    return {static_cast<std::uint16_t>(sign << 15 | (115 + (bits >> 1) % 16) << 7 | (bits >> 40 & 127))};
  } else if constexpr (std::is_floating_point_v<T>) {
    if (bits >> 58 == 0) return -T{};
    return static_cast<T>(random.bell());
  } else {
    return static_cast<T>(static_cast<T>(bits) >> random.below(8 * sizeof(T)));
  }
}

template <class T>
std::vector<T> ordinary_elements(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<T> elements(count);
  for (T& element : elements) element = ordinary<T>(random);
  return elements;
}

template <class T>
std::vector<T> wild_elements(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<T> elements(count);
  for (T& element : elements) element = wild<T>(random);
  return elements;
}

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& elements) {
  std::vector<std::byte> bytes(elements.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}

// Random bytes as elements of any type, no wider exponents than the type's own.
inline std::vector<std::byte> random_bytes(std::size_t count, std::uint64_t seed) {
  return bytes_of(wild_elements<std::uint8_t>(count, seed));
}

inline TensorView contiguous(const void* data, DType dtype, std::vector<std::int64_t> shape) {
  TensorView view;
  view.data = static_cast<const std::byte*>(data);
  view.dtype = dtype;
  view.strides.resize(shape.size());
  std::int64_t stride = row(dtype).item_size;
  for (std::size_t i = shape.size(); i-- > 0;) {
    view.strides[i] = stride;
    stride *= shape[i];
  }
  view.shape = std::move(shape);
  return view;
}

inline TensorView vector_view(const void* data, DType dtype, std::size_t count) {
  return contiguous(data, dtype, {static_cast<std::int64_t>(count)});
}

inline TensorSummary summarize_one(const TensorView& view, const Options& options = {}) {
  const SparseView tensor{view, view.shape, 0};
  return summarize({&tensor, 1}, options).front();
}

// Equal to the last bit, which == is not: it takes -0 for 0.
template <class T>
bool same_bits(const T& a, const T& b) {
  static_assert(std::is_trivially_copyable_v<T>);
  return std::memcmp(&a, &b, sizeof a) == 0;
}
static_assert(sizeof(Summary) == 14 * 8, "same_bits(Summary) compares padding");

// The first field in which they differ, or nothing.
inline std::string difference(const BlockSums& a, const BlockSums& b) {
#define TENSOMETER_COMPARE(field) \
  if (!same_bits(a.field, b.field)) return check::text(#field ": ", a.field, " is not ", b.field);
  TENSOMETER_COMPARE(count)
  TENSOMETER_COMPARE(zeros)
  TENSOMETER_COMPARE(negatives)
  TENSOMETER_COMPARE(nan)
  TENSOMETER_COMPARE(posinf)
  TENSOMETER_COMPARE(neginf)
  TENSOMETER_COMPARE(min)
  TENSOMETER_COMPARE(max)
  TENSOMETER_COMPARE(exponent)
  TENSOMETER_COMPARE(pivot)
  TENSOMETER_COMPARE(sum)
  TENSOMETER_COMPARE(squares)
  TENSOMETER_COMPARE(magnitudes)
#undef TENSOMETER_COMPARE
  return {};
}

inline std::string difference(const Summary& a, const Summary& b) {
#define TENSOMETER_FIELD(type, name, empty, rule) \
  if (!same_bits(a.name, b.name)) return check::text(#name ": ", a.name, " is not ", b.name);
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
  return {};
}

// The summary of one block of lanes, in scalar words.
template <class T>
Summary reference_summary(const T* elements, std::uint32_t count) {
  Summary s = finish_block(reference_block(elements, count), std::is_same_v<LaneOf<T>, double>);
  if constexpr (std::is_same_v<T, std::int64_t> || std::is_same_v<T, std::uint64_t>) {
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t flip = std::is_same_v<T, std::uint64_t> ? std::uint64_t{1} << 63 : 0;
      const auto ordered = static_cast<std::int64_t>(static_cast<std::uint64_t>(elements[i]) ^ flip);
      s.integer_min = ordered < s.integer_min ? ordered : s.integer_min;
      s.integer_max = ordered > s.integer_max ? ordered : s.integer_max;
    }
  }
  return s;
}

// The fixed shape of section "Merging", level by level: 64 neighbours fold left to right into one of the next level.
inline Summary reference_fold(std::vector<Summary> level) {
  if (level.empty()) return {};
  while (level.size() > 1) {
    std::vector<Summary> above;
    for (std::size_t i = 0; i < level.size(); ++i) {
      if (i % 64 == 0) {
        above.push_back(level[i]);
      } else {
        merge(above.back(), level[i]);
      }
    }
    level = std::move(above);
  }
  return level.front();
}

}  // namespace tensometer
