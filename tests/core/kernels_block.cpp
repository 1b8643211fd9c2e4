// Every block kernel of every instruction set against block.hpp, bit by bit.
#include "data.hpp"

namespace tensometer {
namespace {

// All instruction sets over a copy of the elements at that misalignment. `place` and `detail` say where it failed.
template <class T>
void check_block(DType dtype, const T* elements, std::uint32_t count, std::size_t misalignment, const char* place,
                 std::uint64_t detail = 0) {
  const BlockSums expected = reference_block(elements, count);
  const ExactMemory memory(elements, count * sizeof(T), misalignment);
  for (const InstructionSet* set : instruction_sets()) {
    BlockSums found;
    found.sum = found.pivot = 123;  // a kernel owes nothing to what was there before
    found.nan = 7;
    set->block->sums[static_cast<std::size_t>(dtype)](memory.data(), count, found);
    const std::string wrong = difference(found, expected);
    CHECK(wrong.empty(), row(dtype).name, " ", set->name, ", ", count, " elements, misaligned by ", misalignment, ", ",
          place, " ", detail, ": ", wrong);
  }
}

template <class T>
void check_lengths(DType dtype, const std::vector<T>& elements, const char* place) {
  for (std::uint32_t count = 0; count <= block_size; count += check::quick() && count > 300 ? 61 : 1) {
    check_block(dtype, elements.data(), count, (count * 7 + 3) % 64, place);
  }
}

TEST(block_kernels_at_every_length) {
  for_each_lane_type(
      []<class T>(DType dtype) { check_lengths(dtype, ordinary_elements<T>(block_size, 1), "ordinary"); });
}

TEST(block_kernels_at_every_length_with_non_finite_elements) {
  for_each_lane_type([]<class T>(DType dtype) { check_lengths(dtype, wild_elements<T>(block_size, 2), "wild"); });
}

TEST(block_kernels_at_every_misalignment) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(block_size, 3), any = wild_elements<T>(block_size, 4);
    for (const std::uint32_t count : {1,  2,  3,   7,   8,   9,   15,  16,  17,  31,  32,   33,   63,
                                      64, 65, 100, 127, 128, 129, 255, 256, 257, 300, 1000, 4095, 4096}) {
      for (std::size_t misalignment = 0; misalignment < 64; ++misalignment) {
        check_block(dtype, elements.data(), count, misalignment, "ordinary");
        check_block(dtype, any.data() + 4096 - count, count, misalignment, "wild");
      }
    }
  });
}

template <class T>
T of_bits(std::uint64_t bits) {
  T element;
  std::memcpy(&element, &bits, sizeof element);
  return element;
}

// Calls body.operator()<storage>(dtype) for the types of two bytes.
template <class Body>
void for_each_16_bit_type(Body&& body) {
  for_each_lane_type([&]<class T>(DType dtype) {
    if constexpr (sizeof(T) == 2) body.template operator()<T>(dtype);
  });
}

TEST(block_kernels_take_every_16_bit_pattern_in_full_blocks) {
  for_each_16_bit_type([]<class T>(DType dtype) {
    std::vector<T> patterns(65536);
    for (std::uint32_t i = 0; i < patterns.size(); ++i) patterns[i] = of_bits<T>(i * 40503u % 65536u);
    for (const std::uint32_t shift : {0u, 1u, 127u, 2048u + 77u}) {  // every pattern at other lanes and rows
      for (std::uint32_t first = 0; first < patterns.size(); first += block_size) {
        T block[block_size];
        for (std::uint32_t i = 0; i < block_size; ++i) block[i] = patterns[(first + shift + i) % patterns.size()];
        check_block(dtype, block, block_size, first / block_size, "rotated by", shift);
        check_block(dtype, block, block_size - 1 - shift % 64, 2, "rotated by", shift);
      }
    }
  });
}

TEST(block_kernels_take_every_16_bit_pattern_at_every_kind_of_position) {
  // In a first and a middle row, in the last row where vectors reach and where they do not; and in a block of one row.
  constexpr std::uint32_t count = 2 * row_size + 37, single = 37;
  for_each_16_bit_type([]<class T>(DType dtype) {
    std::vector<T> block = ordinary_elements<T>(count, 5);
    for (std::uint32_t pattern = 0; pattern < 65536; pattern += check::quick() ? 31 : 1) {
      for (const std::uint32_t at : {5u, 200u, 260u, count - 1}) {
        const T before = std::exchange(block[at], of_bits<T>(pattern));
        check_block(dtype, block.data(), count, 0, "pattern", pattern);
        block[at] = before;
      }
      for (const std::uint32_t at : {0u, single - 1}) {
        const T before = std::exchange(block[at], of_bits<T>(pattern));
        check_block(dtype, block.data(), single, 0, "pattern", pattern);
        block[at] = before;
      }
    }
  });
}

template <class T>
std::vector<T> special_values() {
  using Limits = std::numeric_limits<T>;
  const T tiny = Limits::denorm_min(), small = Limits::min(), huge = Limits::max();
  return {Limits::quiet_NaN(),
          -Limits::quiet_NaN(),
          Limits::signaling_NaN(),
          Limits::infinity(),
          -Limits::infinity(),
          T(0),
          -T(0),
          tiny,
          -tiny,
          small,
          small - tiny,
          huge,
          -huge};
}

template <class T>
void check_special_values(DType dtype, std::uint32_t step) {
  std::vector<T> block = ordinary_elements<T>(block_size, 6);
  for (const T special : special_values<T>()) {
    for (std::uint32_t at = 0; at < block_size; at += step) {
      const T before = std::exchange(block[at], special);
      check_block(dtype, block.data(), block_size, 0, "special value at", at);
      block[at] = before;
    }
  }
}

TEST(block_kernels_take_special_values_at_every_position) {
  check_special_values<float>(DType::k_float32, check::quick() ? 97 : 1);
  check_special_values<double>(DType::k_float64, check::quick() ? 97 : 11);
}

template <class T>
void check_blocks_of_one_value(DType dtype) {
  for (const T special : special_values<T>()) {
    for (const std::uint32_t count : {1u, 100u, 128u, 129u, 1000u, 4095u, 4096u}) {
      std::vector<T> block(count, special);
      check_block(dtype, block.data(), count, 4, "nothing but", 0);
      for (std::uint32_t i = 0; i < count; i += 2) block[i] = -special;
      check_block(dtype, block.data(), count, 4, "both signs", 0);
      block.back() = T(1);
      check_block(dtype, block.data(), count, 4, "and a one", 0);
      block.back() = std::numeric_limits<T>::infinity();
      check_block(dtype, block.data(), count, 4, "and an infinity", 0);
    }
  }
}

TEST(block_kernels_take_blocks_of_one_value) {
  check_blocks_of_one_value<float>(DType::k_float32);
  check_blocks_of_one_value<double>(DType::k_float64);
  for_each_16_bit_type([]<class T>(DType dtype) {
    for (const std::uint64_t bits :
         {0x0000u, 0x8000u, 0x0001u, 0x8001u, 0x7bffu, 0x7c00u, 0xfc00u, 0x7f80u, 0xff80u, 0x7fc0u, 0xffffu}) {
      for (const std::uint32_t count : {1u, 128u, 129u, 4096u}) {
        check_block(dtype, std::vector<T>(count, of_bits<T>(bits)).data(), count, 0, "nothing but", bits);
      }
    }
  });
}

// Magnitudes around 2^exponent, alone and beside smaller ones, with an outlier and with what is not finite.
template <class T>
void check_scale(DType dtype, int exponent) {
  Random random(static_cast<std::uint64_t>(exponent) + 5000);
  std::vector<T> block(block_size);
  for (T& element : block) element = static_cast<T>(std::ldexp(random.bell(), exponent));
  const auto place = static_cast<std::uint64_t>(exponent + 2000);
  for (const std::uint32_t count : {100u, 128u, 1000u, block_size})
    check_block(dtype, block.data(), count, 0, "scale", place);
  for (std::uint32_t i = 0; i < block_size; i += 3) block[i] = static_cast<T>(std::ldexp(random.bell(), exponent - 20));
  check_block(dtype, block.data(), block_size, 0, "two scales", place);
  block[random.below(block_size)] = T(1);
  check_block(dtype, block.data(), block_size, 0, "an outlier of 1", place);
  block[random.below(block_size)] = std::numeric_limits<T>::infinity();
  block[random.below(block_size)] = std::numeric_limits<T>::quiet_NaN();
  check_block(dtype, block.data(), block_size, 0, "not all finite", place);
  const T offset = static_cast<T>(std::ldexp(1.0, exponent));
  for (T& element : block) element = static_cast<T>(offset * T(1.0 + 0x1p-20 * random.bell()));
  check_block(dtype, block.data(), block_size, 0, "mean far above deviation", place);
}

TEST(block_kernels_at_every_scale) {
  const int step = check::quick() ? 9 : 1;
  for (int exponent = -149; exponent <= 127; exponent += step) check_scale<float>(DType::k_float32, exponent);
  for (int exponent = -1074; exponent <= 1023; exponent += 5 * step) check_scale<double>(DType::k_float64, exponent);
}

TEST(block_kernels_on_both_sides_of_every_threshold) {
  // The largest magnitude just below, at and just above where scaling starts, for both signs.
  const auto check_threshold = []<class T>(DType dtype, T threshold) {
    for (const T largest :
         {std::nextafter(threshold, T(0)), threshold, std::nextafter(threshold, std::numeric_limits<T>::max())}) {
      for (const T sign : {T(1), T(-1)}) {
        Random random(9);
        std::vector<T> block(block_size);
        for (T& element : block) element = static_cast<T>(threshold * T(0.5) * static_cast<T>(random.uniform()));
        block[1234] = sign * largest;
        for (const std::uint32_t count : {1235u, block_size}) check_block(dtype, block.data(), count, 0, "threshold");
      }
    }
  };
  check_threshold(DType::k_float32, static_cast<float>(largest_unscaled<float>));
  check_threshold(DType::k_float32, static_cast<float>(smallest_unscaled<float>));
  check_threshold(DType::k_float64, largest_unscaled<double>);
  check_threshold(DType::k_float64, smallest_unscaled<double>);
}

TEST(widen_kernels_are_exact) {
  for_each_lane_type([]<class T>(DType dtype) {
    using Lane = LaneOf<T>;
    std::vector<T> elements = wild_elements<T>(65536, 10);
    if constexpr (sizeof(T) == 2) {
      for (std::uint32_t i = 0; i < 65536; ++i) elements[i] = of_bits<T>(i);
    }
    for (std::uint32_t first = 0, turn = 0; first < elements.size(); ++turn) {
      const auto count =
          std::min<std::uint32_t>(block_size - turn % 70, static_cast<std::uint32_t>(elements.size()) - first);
      const ExactMemory from(elements.data() + first, count * sizeof(T), turn % 64), to(count * sizeof(Lane));
      for (const InstructionSet* set : instruction_sets()) {
        set->block->widen[static_cast<std::size_t>(dtype)](from.data(), count, to.data());
        for (std::uint32_t i = 0; i < count; ++i) {
          Lane found;
          std::memcpy(&found, to.data() + i * sizeof found, sizeof found);
          const Lane expected = widen(elements[first + i]);
          CHECK(same_bits(found, expected) || (found != found && expected != expected), row(dtype).name, " ", set->name,
                ", element ", first + i, ": ", found, " is not ", expected);
        }
      }
      first += count;
    }
  });
}

}  // namespace
}  // namespace tensometer
