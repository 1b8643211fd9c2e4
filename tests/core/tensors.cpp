// Whole tensors through the public reduction, against blocks of the reference folded in the fixed shape.
#include <algorithm>

#include "bytes.hpp"
#include "data.hpp"

namespace tensometer {
namespace {

template <class T>
Summary reference_tensor(const std::vector<T>& elements) {
  std::vector<Summary> blocks;
  for (std::size_t first = 0; first < elements.size(); first += block_size) {
    const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(block_size, elements.size() - first));
    blocks.push_back(reference_summary(elements.data() + first, count));
  }
  return reference_fold(blocks);
}

TEST(tensors_of_every_length_up_to_three_blocks_and_three) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(3 * block_size + 3, 40);
    std::vector<Summary> whole;  // blocks before the last one
    for (std::size_t count = 0; count <= elements.size(); count += check::quick() ? 127 : 1) {
      const std::size_t before = count == 0 ? 0 : (count - 1) / block_size * block_size;
      while (whole.size() < before / block_size)
        whole.push_back(reference_summary(&elements[whole.size() * block_size], block_size));
      std::vector<Summary> blocks = whole;
      if (count != 0)
        blocks.push_back(reference_summary(&elements[before], static_cast<std::uint32_t>(count - before)));
      const Summary expected = reference_fold(blocks);
      const ExactMemory memory(elements.data(), count * sizeof(T), count % 64);
      for (const InstructionSet* set : instruction_sets()) {
        const Forced forced(set->name);
        const std::string wrong = difference(summarize_one(vector_view(memory.data(), dtype, count)).summary, expected);
        CHECK(wrong.empty(), row(dtype).name, " ", set->name, ", ", count, " elements: ", wrong);
      }
    }
  });
}

template <class T>
void check_large(DType dtype, std::size_t blocks, std::uint64_t seed) {
  std::vector<T> elements = ordinary_elements<T>(blocks * block_size + 77, seed);
  const Summary expected = reference_tensor(elements);
  const SparseView tensor{
      vector_view(elements.data(), dtype, elements.size()), {static_cast<std::int64_t>(elements.size())}, 0};
  std::optional<TensorSummary> first;
  for (const InstructionSet* set : instruction_sets()) {
    const Forced forced(set->name);
    for (unsigned threads = 1; threads <= 8; ++threads) {
      const TensorSummary found = summarize({&tensor, 1}, {HistogramMode::full, 6, true, threads}).front();
      const std::string wrong = difference(found.summary, expected);
      CHECK(wrong.empty(), row(dtype).name, " ", set->name, ", ", blocks, " blocks, ", threads, " threads: ", wrong);
      if (!first) first = found;
      CHECK(found == *first, row(dtype).name, " ", set->name, ", ", blocks, " blocks, ", threads, " threads");
    }
  }
}

TEST(tensors_fold_in_the_fixed_shape_whatever_the_threads) {
  for (const std::size_t blocks : {31u, 32u, 33u, 63u, 64u, 65u, 128u, 130u, 255u, 257u, 400u}) {
    check_large<float>(DType::k_float32, blocks, blocks);
  }
  for_each_lane_type([]<class T>(DType dtype) { check_large<T>(dtype, check::quick() ? 66 : 200, 41); });
}

TEST(tensors_of_more_than_a_super_group) {
  if (check::quick()) return check_large<bfloat16>(DType::k_bfloat16, 600, 42);
  constexpr std::size_t blocks = 64 * 64 + 3 * 64 + 5;
  const std::vector<bfloat16> elements = ordinary_elements<bfloat16>(blocks * block_size + 1, 43);
  const Summary expected = reference_tensor(elements);
  for (const unsigned threads : {1u, 2u, 5u}) {
    const auto found =
        summarize_one(vector_view(elements.data(), DType::k_bfloat16, elements.size()), {.threads = threads});
    const std::string wrong = difference(found.summary, expected);
    CHECK(wrong.empty(), threads, " threads: ", wrong);
  }
}

// Every statistic of the one-byte types, element by element; long double holds all their sums exactly here.
TEST(one_byte_types_element_by_element) {
  for (const DType dtype : all_types()) {
    if (row(dtype).lanes != Lanes::table) continue;
    std::vector<std::byte> bytes = random_bytes(3 * block_size + 3, 44);
    for (unsigned i = 0; i < 256; ++i) bytes[i] = static_cast<std::byte>(i);
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{256}, bytes.size()}) {
      Summary expected;
      long double sum = 0, magnitudes = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const double value = value_of_byte(dtype, std::to_integer<unsigned>(bytes[i]));
        ++expected.count;
        expected.zeros += value == 0, expected.negatives += value < 0 && value > -infinity;
        expected.nan += value != value, expected.posinf += value == infinity, expected.neginf += value == -infinity;
        if (!(std::fabs(value) < infinity)) continue;
        expected.min = std::min(expected.min, value), expected.max = std::max(expected.max, value);
        sum += value, magnitudes += std::fabs(value);
      }
      const ExactMemory memory(bytes.data(), count, count % 7);
      const Summary found = summarize_one(vector_view(memory.data(), dtype, count)).summary;
      expected.abs_sum = static_cast<double>(magnitudes);
      expected.mean = expected.finite() ? static_cast<double>(sum) / static_cast<double>(expected.finite()) : 0;
      expected.m2 = found.m2;
      const std::string wrong = difference(found, expected);
      CHECK(wrong.empty(), row(dtype).name, ", ", count, " elements: ", wrong);
      long double m2 = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const long double d =
            value_of_byte(dtype, std::to_integer<unsigned>(bytes[i])) - static_cast<long double>(found.mean);
        if (std::fabs(d) < infinity) m2 += d * d;
      }
      // 256 terms, each of three roundings, added in turn: below 260 * 2^-53.
      CHECK(std::fabs(static_cast<double>(m2) - found.m2) <= 260 * 0x1p-53 * found.m2, row(dtype).name, ": m2 ",
            found.m2);
    }
  }
}

TEST(bytes_decode_to_their_values) {
  const auto value = [](DType dtype, unsigned byte) { return value_of_byte(dtype, byte); };
  CHECK(value(DType::k_float8_e4m3fn, 0x7e) == 448);
  CHECK(value(DType::k_float8_e4m3fn, 0x01) == 0x1p-9);
  CHECK(std::isnan(value(DType::k_float8_e4m3fn, 0x7f)) && std::isnan(value(DType::k_float8_e4m3fn, 0xff)));
  CHECK(value(DType::k_float8_e5m2, 0x7b) == 57344);
  CHECK(value(DType::k_float8_e5m2, 0xfc) == -infinity && value(DType::k_float8_e5m2, 0x01) == 0x1p-16);
  CHECK(std::isnan(value(DType::k_float8_e5m2, 0x7d)));
  CHECK(value(DType::k_float8_e4m3fnuz, 0x7f) == 240 && value(DType::k_float8_e4m3fnuz, 0x01) == 0x1p-10);
  CHECK(std::isnan(value(DType::k_float8_e4m3fnuz, 0x80)));
  CHECK(value(DType::k_float8_e5m2fnuz, 0x7f) == 57344 && value(DType::k_float8_e5m2fnuz, 0x01) == 0x1p-17);
  CHECK(std::isnan(value(DType::k_float8_e5m2fnuz, 0x80)));
  CHECK(value(DType::k_int8, 0x80) == -128 && value(DType::k_uint8, 0xff) == 255 && value(DType::k_bool, 2) == 1);
}

TEST(integers_keep_their_exact_extremes) {
  const std::int64_t low = INT64_MIN, high = INT64_MAX;
  const std::vector<std::int64_t> signed_values{3, high - 1, low + 1, high - 2};
  const Summary s = summarize_one(vector_view(signed_values.data(), DType::k_int64, 4)).summary;
  CHECK(s.integer_min == low + 1 && s.integer_max == high - 1);
  const std::vector<std::uint64_t> values{UINT64_MAX, UINT64_MAX - 1, 5};
  const Summary u = summarize_one(vector_view(values.data(), DType::k_uint64, 3)).summary;
  CHECK(static_cast<std::uint64_t>(u.integer_min) + (std::uint64_t{1} << 63) == 5);
  CHECK(static_cast<std::uint64_t>(u.integer_max) + (std::uint64_t{1} << 63) == UINT64_MAX);
}

template <class Part>
void check_complex(DType dtype) {
  std::vector<Part> parts;
  Random random(45);
  for (unsigned i = 0; i < 4 * block_size + 10; ++i) parts.push_back(static_cast<Part>(random.bell()));
  const auto any = wild_elements<Part>(2000, 46);
  parts.insert(parts.end(), any.begin(), any.end());
  for (const double special : {0.0, -0.0, infinity, -infinity, nan_value}) {
    for (const double other : {0.0, 1.0, infinity, nan_value}) parts.insert(parts.end(), {Part(special), Part(other)});
  }
  std::vector<double> sizes;
  for (std::size_t i = 0; i < parts.size(); i += 2) {
    const long double re = parts[i], im = parts[i + 1];
    const bool infinite = std::isinf(re) || std::isinf(im);
    // long double has the range of a float64 squared, so nothing overflows; what it rounds otherwise, `close` allows.
    sizes.push_back(
        infinite ? infinity
                 : std::min(static_cast<double>(std::sqrt(re * re + im * im)), std::numeric_limits<double>::max()));
    if (!infinite && (re != re || im != im)) sizes.back() = nan_value;
  }
  const Summary found = summarize_one(vector_view(parts.data(), dtype, sizes.size())).summary;
  const Summary expected = reference_tensor(sizes);
  CHECK(found.count == expected.count && found.nan == expected.nan && found.posinf == expected.posinf, row(dtype).name);
  CHECK(found.neginf == 0 && found.negatives == 0 && found.zeros == expected.zeros, row(dtype).name);
  // A magnitude has two roundings below the root and one at it: 2^-52 relative, with room.
  const auto close = [](double a, double b) { return a == b || std::fabs(a - b) <= 0x1p-51 * std::fabs(b); };
  CHECK(close(found.min, expected.min) && close(found.max, expected.max), row(dtype).name, ": ", found.min, " ",
        found.max);
  CHECK(close(found.l1(), expected.l1()) && close(found.l2(), expected.l2()), row(dtype).name, ": ", found.l1());
}

TEST(complex_types_by_their_magnitude) {
  check_complex<float>(DType::k_complex64);
  check_complex<double>(DType::k_complex128);
}

TEST(sparse_tensors_count_their_implicit_zeros) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> stored = ordinary_elements<T>(5000, 47);
    const SparseView tensor{vector_view(stored.data(), dtype, stored.size()), {100, 100}, 5000};
    const TensorSummary found = summarize({&tensor, 1}, {.histogram = HistogramMode::full}).front();
    std::vector<T> dense = stored;
    dense.resize(10000, T{});
    const TensorSummary whole =
        summarize_one(contiguous(dense.data(), dtype, {100, 100}), {.histogram = HistogramMode::full});
    CHECK(found.shape == whole.shape && found.histogram == whole.histogram, row(dtype).name);
    CHECK(found.summary.zeros == whole.summary.zeros && found.summary.count == 10000, row(dtype).name);
    CHECK(found.summary.min == whole.summary.min && found.summary.max == whole.summary.max, row(dtype).name);
    CHECK(found.summary.integer_min == whole.summary.integer_min, row(dtype).name);
    CHECK(found.summary.integer_max == whole.summary.integer_max, row(dtype).name);
  });
}

TEST(many_tensors_in_one_call_equal_each_alone) {
  Random random(48);
  std::vector<std::vector<std::byte>> memory;
  std::vector<SparseView> tensors;
  for (unsigned i = 0; i < 500; ++i) {
    const DType dtype = all_types()[random.below(dtype_count)];
    const std::size_t count = random.below(i % 50 == 0 ? 300000 : 2000);
    memory.push_back(random_bytes(count * row(dtype).item_size, i));
    tensors.push_back({vector_view(memory.back().data(), dtype, count), {static_cast<std::int64_t>(count)}, 0});
  }
  const Options options{HistogramMode::full, 3, true, 4};
  const auto all = summarize(tensors, options);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CHECK(all[i] == summarize({&tensors[i], 1}, {HistogramMode::full, 3, true, 1}).front(), "tensor ", i);
  }
}

TEST(units_equal_the_slices_alone) {
  const std::vector<float> elements = ordinary_elements<float>(7 * 6 * 50, 49);
  const TensorView view = contiguous(elements.data(), DType::k_float32, {7, 6, 50});
  for (std::size_t dim = 0; dim < 3; ++dim) {
    const auto units = summarize_units(view, dim, {.histogram = HistogramMode::full, .fingerprint = true});
    CHECK(units.size() == static_cast<std::size_t>(view.shape[dim]));
    for (std::size_t i = 0; i < units.size(); ++i) {
      const TensorView unit = select(view, dim, static_cast<std::int64_t>(i));
      CHECK(units[i] == summarize_one(unit, {.histogram = HistogramMode::full, .fingerprint = true}), dim, " ", i);
    }
  }
}

}  // namespace
}  // namespace tensometer
