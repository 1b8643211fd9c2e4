// The histogram kernels against bin_of, uniform histograms against a search in the edges: for every instruction set.
#include <algorithm>
#include <functional>

#include "bytes.hpp"
#include "data.hpp"
#include "uniform.hpp"

namespace tensometer {
namespace {

// Counters as the kernels keep them: indexed by sign first, then the top bits of the magnitude's float32 pattern.
template <class T>
std::vector<std::uint32_t> model_table(const T* elements, std::uint32_t count, unsigned resolution) {
  const std::uint32_t half = 1u << (8 + resolution), finite = 255u << resolution;
  std::vector<std::uint32_t> table(2 * half);
  for (std::uint32_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(widen(elements[i]));
    if (std::fabs(value) < infinity) {
      const std::uint32_t bin = bin_of(value, resolution);
      ++table[bin >= half ? bin - half : half + (half - 1 - bin)];
    } else {
      ++table[finite];
    }
  }
  return table;
}

// Where the kernels count what is not finite is theirs to choose, among the bins of an all-ones exponent.
void gather_non_finite(std::vector<std::uint32_t>& table, unsigned resolution) {
  const std::uint32_t half = 1u << (8 + resolution), finite = 255u << resolution;
  std::uint32_t sum = 0;
  for (const std::uint32_t first : {0u, half}) {
    for (std::uint32_t i = first + finite; i < first + half; ++i) sum += std::exchange(table[i], 0u);
  }
  table[finite] = sum;
}

template <class T>
void check_histogram(DType dtype, const T* elements, std::uint32_t count, unsigned resolution,
                     std::size_t misalignment) {
  const std::vector<std::uint32_t> expected = model_table(elements, count, resolution);
  const ExactMemory memory(elements, count * sizeof(T), misalignment);
  for (const InstructionSet* set : instruction_sets()) {
    std::vector<std::uint32_t> both(2 * expected.size());
    const std::uint32_t weight = 1 + count % 8;
    set->histogram->count[static_cast<std::size_t>(dtype)](memory.data(), count, resolution, weight, both.data());
    const auto second = both.begin() + static_cast<std::ptrdiff_t>(expected.size());
    std::vector<std::uint32_t> table(expected.size());
    std::transform(both.begin(), second, second, table.begin(), std::plus<>{});
    gather_non_finite(table, resolution);
    CHECK(std::all_of(table.begin(), table.end(), [&](std::uint32_t number) { return number % weight == 0; }),
          "weight");
    for (std::uint32_t& number : table) number /= weight;
    const auto wrong = std::mismatch(table.begin(), table.end(), expected.begin()).first - table.begin();
    CHECK(table == expected, row(dtype).name, " ", set->name, ", ", count, " elements, resolution ", resolution,
          ", counter ", wrong);
  }
}

TEST(histogram_kernels_at_every_resolution) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(block_size, 20), any = wild_elements<T>(block_size, 21);
    for (unsigned resolution = 0; resolution <= max_resolution; ++resolution) {
      for (const std::uint32_t count : {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1000, 4093, 4096}) {
        check_histogram(dtype, elements.data(), count, resolution, count % 64);
        check_histogram(dtype, any.data(), count, resolution, (count + resolution) % 64);
      }
    }
  });
}

TEST(histogram_kernels_at_every_length) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = wild_elements<T>(block_size, 22);
    for (std::uint32_t count = 0; count <= block_size; count += check::quick() ? 41 : 3) {
      check_histogram(dtype, elements.data(), count, 2, count % 64);
    }
  });
}

TEST(histogram_kernels_take_every_16_bit_pattern) {
  for_each_lane_type([]<class T>(DType dtype) {
    if constexpr (sizeof(T) == 2) {
      for (const unsigned resolution : {0u, 3u, 6u, 7u}) {
        for (std::uint32_t first = 0; first < 65536; first += block_size) {
          T block[block_size];
          for (std::uint32_t i = 0; i < block_size; ++i) {
            const auto bits = static_cast<std::uint16_t>(first + i);
            std::memcpy(&block[i], &bits, sizeof bits);
          }
          check_histogram(dtype, block, block_size, resolution, 0);
        }
      }
    }
  });
}

// Every power of two of float64 from below float32's range to above it, its neighbours and what lies between.
std::vector<double> values_near_edges() {
  std::vector<double> values;
  for (int exponent = -1074; exponent <= 1023; exponent += exponent < -160 || exponent > 140 ? 37 : 1) {
    for (const double factor : {1.0, 1.0078125, 1.25, 1.5, 1.9921875}) {
      const double value = std::ldexp(factor, exponent);
      for (const double x : {value, std::nextafter(value, 0.0), std::nextafter(value, infinity)}) {
        values.push_back(x);
        values.push_back(-x);
      }
    }
  }
  return values;
}

TEST(histogram_kernels_put_edges_into_their_own_bins) {
  const std::vector<double> wide = values_near_edges();
  std::vector<float> narrow;
  for (const double x : wide) narrow.push_back(std::fabs(x) < 0x1p128 ? static_cast<float>(x) : 1.0f);
  for (unsigned resolution = 0; resolution <= max_resolution; ++resolution) {
    for (std::size_t first = 0; first < wide.size(); first += block_size) {
      const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(block_size, wide.size() - first));
      check_histogram(DType::k_float64, wide.data() + first, count, resolution, 0);
      check_histogram(DType::k_float32, narrow.data() + first, count, resolution, 0);
    }
  }
}

template <class T>
std::vector<std::int64_t> model_uniform(const std::vector<T>& elements, const std::vector<double>& edges) {
  std::vector<std::int64_t> counts(edges.size() - 1);
  for (const T element : elements) {
    const double value = static_cast<double>(widen(element));
    if (value == edges.back()) {
      ++counts.back();
    } else if (value >= edges.front() && value < edges.back()) {
      const auto above = std::upper_bound(edges.begin(), edges.end(), value) - edges.begin();
      ++counts[static_cast<std::size_t>(above) - 1];
    }
  }
  return counts;
}

template <class T>
void check_uniform(DType dtype, const std::vector<T>& elements, const std::vector<double>& edges) {
  const std::vector<std::int64_t> expected = model_uniform(elements, edges);
  const ExactMemory memory(elements.data(), elements.size() * sizeof(T), sizeof(T));
  for (const InstructionSet* set : instruction_sets()) {
    const Forced forced(set->name);
    const std::vector<std::int64_t> counts =
        uniform_histogram(vector_view(memory.data(), dtype, elements.size()), edges, 2);
    const auto wrong = std::mismatch(counts.begin(), counts.end(), expected.begin()).first - counts.begin();
    CHECK(counts == expected, row(dtype).name, " ", set->name, ", ", elements.size(), " elements, ", expected.size(),
          " bins from ", edges.front(), " to ", edges.back(), ", bin ", wrong);
  }
}

std::vector<double> evenly(double first, double last, std::size_t bins) {
  std::vector<double> edges(bins + 1);
  for (std::size_t i = 0; i <= bins; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(bins);
    edges[i] = first * (1 - share) + last * share;
  }
  return edges;
}

// Elements in, on, beside and outside the edges.
template <class T>
std::vector<T> elements_for(const std::vector<double>& edges, std::size_t count) {
  Random random(23);
  std::vector<T> elements(count);
  for (T& element : elements) {
    const double edge = edges[random.below(edges.size())], share = random.uniform() * 1.25 - 0.125;
    switch (random.below(64)) {
    case 0:
      element = static_cast<T>(edge);
      break;
    case 1:
      element = std::nextafter(static_cast<T>(edge), T(infinity));
      break;
    case 2:
      element = std::nextafter(static_cast<T>(edge), T(-infinity));
      break;
    case 3:
      element = wild<T>(random);
      break;
    default:
      element = static_cast<T>(edges.front() * (1 - share) + edges.back() * share);
    }
  }
  return elements;
}

TEST(uniform_histogram_counts_by_the_edges) {
  constexpr double huge = std::numeric_limits<double>::max();
  std::vector<std::vector<double>> sets;
  for (const std::size_t bins : {1u, 2u, 3u, 10u, 64u, 1000u, 4099u}) {
    for (const double low : {-3.0, 0.1, 1e6, -1e-30})
      sets.push_back(evenly(low, low + std::fabs(low) * 0.7 + 3e-31, bins));
  }
  sets.push_back(evenly(-huge, huge, 10));  // a range that overflows
  sets.push_back({0, 5e-324, 1e-323});      // one whose reciprocal does
  sets.push_back({1, 1 + 0x1p-52, 1 + 0x1p-51, 1 + 0x1p-50});
  sets.push_back({-1e300, -1, -1e-300, 0, 1e-300, 1, 1e300});  // not even at all
  for (const std::vector<double>& edges : sets) {
    for (const std::size_t count : {0u, 1u, 15u, 17u, 100u, 4095u, 3 * block_size + 3}) {
      check_uniform(DType::k_float32, elements_for<float>(edges, count), edges);
      check_uniform(DType::k_float64, elements_for<double>(edges, count), edges);
    }
  }
}

// From 16 blocks on, the bins of float lanes are counted in pairs, up to 64 of them; 64 blocks are a thread's share.
TEST(uniform_histogram_of_many_elements_counts_pairs) {
  for (const std::size_t bins : {1u, 2u, 10u, 64u, 65u}) {
    for (const std::vector<double>& edges : {evenly(-1, 1, bins), evenly(0.1, 0.3, bins)}) {
      for (const std::size_t blocks : {16u, 65u}) {
        std::vector<float> elements = elements_for<float>(edges, blocks * block_size + 77);
        check_uniform(DType::k_float32, elements, edges);
        for (std::size_t i = 0; i < elements.size(); i += 3) elements[i] = 0;  // an edge, where bins are even in number
        check_uniform(DType::k_float32, elements, edges);
        std::ranges::fill(elements, static_cast<float>(edges.back()));
        check_uniform(DType::k_float32, elements, edges);
      }
    }
  }
}

TEST(uniform_histogram_of_every_lane_type) {
  for_each_lane_type([]<class T>(DType dtype) {
    for (const std::vector<double>& edges : {evenly(-2, 2, 64), evenly(-40000, 70000, 100), evenly(-1e19, 2e19, 33)}) {
      check_uniform(dtype, ordinary_elements<T>(5000, 24), edges);
      check_uniform(dtype, wild_elements<T>(5000, 25), edges);
    }
  });
}

TEST(uniform_histogram_of_one_byte_types) {
  std::vector<std::uint8_t> bytes(3 * 256);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);
  for (const DType dtype : all_types()) {
    if (row(dtype).lanes != Lanes::table) continue;
    std::vector<double> values;
    for (const std::uint8_t byte : bytes) values.push_back(value_of_byte(dtype, byte));
    for (const std::vector<double>& edges : {evenly(-2, 2, 64), evenly(-448, 448, 7), evenly(0, 1, 2)}) {
      const auto counts = uniform_histogram(vector_view(bytes.data(), dtype, bytes.size()), edges, 1);
      CHECK(counts == model_uniform(values, edges), row(dtype).name);
    }
  }
}

}  // namespace
}  // namespace tensometer
