// The kernels, emulated, against the engine on the CPU with ==.
#include "../core/data.hpp"
#include "emulated.hpp"

namespace tensometer {
namespace {

using cuda::Emulated;
using emulation::Schedule;

std::string how_it_differs(const TensorSummary& found, const TensorSummary& expected) {
  std::string text;
#define TENSOMETER_FIELD(type, name, empty, rule)                                                    \
  if (std::memcmp(&found.summary.name, &expected.summary.name, sizeof(type)) != 0) {                 \
    text += check::text(#name " is ", found.summary.name, " and not ", expected.summary.name, "; "); \
  }
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
  if (found.histogram != expected.histogram) text += "another histogram; ";
  if (found.fingerprint != expected.fingerprint) text += "another fingerprint; ";
  if (!(found == expected) && text.empty()) text = "another shape or type";
  return text;
}

void check_views(const std::vector<TensorView>& views, const Options& options, const Emulated& how, const char* what) {
  const std::vector<TensorSummary> found = cuda::emulate(views, options, how);
  std::vector<SparseView> sparse;
  for (const TensorView& view : views) sparse.push_back({view, view.shape, 0});
  const KeptVector<TensorSummary> expected = summarize(sparse, options);
  for (std::size_t i = 0; i < views.size(); ++i) {
    const std::string wrong = how_it_differs(found[i], expected[i]);
    CHECK(wrong.empty(), what, ", ", row(views[i].dtype).name, ", tensor ", i, " of ", views[i].count(),
          " elements: ", wrong);
  }
}

Options everything(unsigned resolution) {
  Options options;
  options.histogram = HistogramMode::full;
  options.resolution = resolution;
  options.fingerprint = true;
  options.threads = 1;
  return options;
}

// Lengths around rows, blocks and groups.
const std::vector<std::size_t> lengths = {0,    1,    2,    3,    31,   32,   33,   127,  128,  129,   255,   257,
                                          1000, 1023, 1025, 4095, 4096, 4097, 8191, 8192, 8195, 12287, 12288, 12291};

TEST(kernels_at_many_lengths) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> plain = ordinary_elements<T>(12291, 1), wild = wild_elements<T>(12291, 2);
    std::vector<TensorView> views;
    for (const std::size_t length : lengths) {
      views.push_back(vector_view(plain.data(), dtype, length));
      views.push_back(vector_view(wild.data() + 12291 - length, dtype, length));
    }
    check_views(views, everything(3), {}, "many lengths");
  });
}

constexpr Schedule schedules[] = {Schedule::forward, Schedule::reverse, Schedule::random};

TEST(kernels_in_any_order_of_threads_and_blocks) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> plain = ordinary_elements<T>(5 * block_size + 3, 3),
                         wild = wild_elements<T>(block_size + 9, 4);
    const std::vector<TensorView> views = {vector_view(plain.data(), dtype, plain.size()),
                                           vector_view(wild.data(), dtype, wild.size())};
    for (const Schedule schedule : schedules) {
      if (check::quick() && schedule != Schedule::random) continue;
      check_views(views, everything(3), {schedule, 11, 8}, "any order");
    }
  });
}

// Little of all that there is, in several items and warps: for tools that are slow.
TEST(kernels_of_several_kinds_together) {
  const std::size_t length = 5 * block_size + 3;
  const std::vector<float> floats = ordinary_elements<float>(length, 14);
  const std::vector<bfloat16> halves = wild_elements<bfloat16>(length, 15);
  const std::vector<std::int64_t> integers = wild_elements<std::int64_t>(length, 16);
  const std::vector<std::byte> bytes = random_bytes(length, 17);
  check_views({vector_view(floats.data(), DType::k_float32, length),
               vector_view(halves.data(), DType::k_bfloat16, length),
               vector_view(integers.data(), DType::k_int64, length), vector_view(bytes.data(), DType::k_uint8, length),
               vector_view(bytes.data() + 1, DType::k_int8, length - 1)},
              everything(3), {Schedule::random, 7, 4}, "together");
}

// More than a group, more than a super-group's worth of records, in items of any size.
TEST(kernels_of_large_tensors) {
  const std::vector<bfloat16> elements = ordinary_elements<bfloat16>(133 * block_size + 77, 5);
  const std::vector<float> floats = ordinary_elements<float>(65 * block_size, 6);
  const std::vector<TensorView> views = {vector_view(elements.data(), DType::k_bfloat16, elements.size()),
                                         vector_view(floats.data(), DType::k_float32, floats.size()),
                                         vector_view(elements.data(), DType::k_bfloat16, 64 * block_size)};
  for (const std::uint32_t item_blocks : {1u, 2u, 8u, 32u, 64u}) {
    check_views(views, everything(3), {Schedule::random, item_blocks, item_blocks}, "large");
  }
}

TEST(kernels_at_every_misalignment) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(block_size + 130, 7);
    for (std::size_t offset = 0; offset < 16; offset += sizeof(T)) {
      const ExactMemory memory(elements.data(), elements.size() * sizeof(T), 16 + offset);
      check_views({vector_view(memory.data(), dtype, elements.size())}, everything(3), {}, "misaligned");
    }
  });
}

TEST(kernels_of_bytes_and_complex_numbers) {
  std::vector<TensorView> views;
  std::vector<std::unique_ptr<ExactMemory>> memories;
  for (const DType dtype : all_types()) {
    if (row(dtype).lanes != Lanes::table && row(dtype).lanes != Lanes::magnitude) continue;
    const bool table = row(dtype).lanes == Lanes::table;
    for (const std::size_t length : {0, 1, 15, 16, 17, 4095, 4096, 4097, 40001}) {
      const std::size_t bytes = length * row(dtype).item_size;
      std::vector<std::uint8_t> any(bytes);
      Random random(length + 1);
      for (std::uint8_t& byte : any)
        byte = static_cast<std::uint8_t>(dtype == DType::k_bool ? random.below(2) : random.bits());
      // A shift by whole elements: tables are read by 16 bytes where they can be.
      memories.push_back(std::make_unique<ExactMemory>(any.data(), bytes, table ? length % 3 : row(dtype).item_size));
      views.push_back(vector_view(memories.back()->data(), dtype, length));
    }
  }
  check_views(views, everything(3), {Schedule::random, 1, 8}, "bytes and complex numbers");
  check_views(views, everything(6), {Schedule::forward, 1, 64}, "bytes and complex numbers");
}

TEST(kernels_of_elements_that_lie_apart) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(30 * 40 * 50, 8);
    TensorView all = vector_view(elements.data(), dtype, elements.size());
    const auto size = static_cast<std::int64_t>(sizeof(T));
    all.shape = {30, 40, 50}, all.strides = {40 * 50 * size, 50 * size, size};
    std::vector<TensorView> views;
    for (const std::size_t dim : {0, 1, 2}) views.push_back(select(all, dim, 7));
    TensorView some = all;
    some.shape = {10, 40, 25}, some.strides = {3 * 40 * 50 * size, 50 * size, 2 * size};
    views.push_back(some);
    some.shape = {40, 30}, some.strides = {50 * size, 40 * 50 * size};  // transposed
    views.push_back(some);
    some.data += 49 * size, some.shape = {30, 40, 50}, some.strides = {40 * 50 * size, 50 * size, -size};  // backwards
    views.push_back(some);
    check_views(views, everything(3), {}, "apart");
  });
}

TEST(histograms_of_every_resolution) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> plain = ordinary_elements<T>(2 * block_size + 5, 9),
                         wild = wild_elements<T>(block_size + 5, 10);
    for (unsigned resolution = 0; resolution <= max_resolution; ++resolution) {
      check_views({vector_view(plain.data(), dtype, plain.size()), vector_view(wild.data(), dtype, wild.size())},
                  everything(resolution), {}, "resolution");
    }
  });
}

TEST(sampled_histograms) {
  const std::vector<float16> elements = ordinary_elements<float16>(150 * block_size + 1, 11);
  Options options = everything(3);
  options.histogram = HistogramMode::sampled;
  const std::vector<TensorView> views = {vector_view(elements.data(), DType::k_float16, elements.size()),
                                         vector_view(elements.data(), DType::k_float16, 30 * block_size)};
  for (const std::uint32_t item_blocks : {8u, 64u})
    check_views(views, options, {Schedule::reverse, 0, item_blocks}, "sampled");
}

template <class T>
T of_double(double value) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16)};
  } else if constexpr (std::is_same_v<T, float16>) {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    if (value != value) return {0x7e00};
    if (value == 0) return {sign};
    return {static_cast<std::uint16_t>(sign | (std::fabs(value) > 65504 ? 0x7c00 : 0x7bff))};
  } else {
    return static_cast<T>(value);
  }
}

// The extreme, the zero or what is not finite at any place of a tile: of each lane, of rows that begin and end a part.
TEST(special_values_at_every_place) {
  const double specials[] = {1e30, -1e30, 0.0, -0.0, nan_value, infinity, -infinity};
  const auto check = [&]<class T>(DType dtype) {
    std::vector<std::vector<T>> all;
    std::vector<TensorView> views;
    for (const double special : specials) {
      for (std::uint32_t place = 0; place < block_size; place += check::quick() ? 509 : 31) {
        all.push_back(ordinary_elements<T>(block_size, 12));
        all.back()[place] = of_double<T>(special);
      }
    }
    for (const std::vector<T>& elements : all) views.push_back(vector_view(elements.data(), dtype, block_size));
    check_views(views, everything(3), {}, "special values");
  };
  check.template operator()<float>(DType::k_float32);
  check.template operator()<bfloat16>(DType::k_bfloat16);
  check.template operator()<float16>(DType::k_float16);
  check.template operator()<double>(DType::k_float64);
}

// With a pivot a zero is told by the bits that its neighbours have in common: where all are near 3, on both sides of 2, or around
// zero but seldom so.
TEST(zeros_at_every_place_of_blocks_with_a_pivot) {
  const auto check = [&]<class T>(DType dtype) {
    std::vector<std::vector<T>> all;
    std::vector<TensorView> views;
    Random random(21);
    for (const auto& [mean, spread] : {std::pair(3.0, 0.1), std::pair(-2.0, 0.3), std::pair(0.7, 0.8)}) {
      for (const double special : {0.0, -0.0, 1e-30, mean}) {
        for (std::uint32_t place = 0; place < block_size; place += check::quick() ? 1021 : 127) {
          std::vector<T> elements;
          for (std::uint32_t i = 0; i < block_size; ++i)
            elements.push_back(of_double<T>(mean + spread * random.bell()));
          elements[place] = of_double<T>(special);
          all.push_back(std::move(elements));
        }
      }
    }
    for (const std::vector<T>& elements : all) views.push_back(vector_view(elements.data(), dtype, block_size));
    check_views(views, everything(3), {}, "zeros beside a pivot");
  };
  check.template operator()<float>(DType::k_float32);
  check.template operator()<bfloat16>(DType::k_bfloat16);
  check.template operator()<float16>(DType::k_float16);
  check.template operator()<double>(DType::k_float64);
}

// Every pattern of the types of two bytes, in blocks that hold a few of them each and in blocks of nothing else.
TEST(all_patterns_of_two_bytes) {
  const auto check = []<class T>(DType dtype) {
    std::vector<T> elements(65536);
    for (std::uint32_t i = 0; i < 65536; ++i) {
      const auto bits = static_cast<std::uint16_t>(i);
      std::memcpy(&elements[i], &bits, sizeof bits);
    }
    std::vector<T> spread(65536);
    for (std::uint32_t i = 0; i < 65536; ++i) spread[i] = elements[i * 40503u % 65536u];
    check_views({vector_view(elements.data(), dtype, 65536), vector_view(spread.data(), dtype, 65536),
                 vector_view(spread.data() + 1, dtype, 65535)},
                everything(7), {}, "all patterns");
  };
  check.template operator()<float16>(DType::k_float16);
  check.template operator()<bfloat16>(DType::k_bfloat16);
  check.template operator()<std::int16_t>(DType::k_int16);
  check.template operator()<std::uint16_t>(DType::k_uint16);
}

// Values whose squares leave the lanes' range, so that blocks are scaled; some blocks, and not their neighbours.
TEST(blocks_that_are_scaled) {
  const auto check = []<class T>(DType dtype, double large) {
    std::vector<T> elements = ordinary_elements<T>(6 * block_size + 9, 13);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const std::size_t block = i / block_size;
      if (block % 2 == 1)
        elements[i] = static_cast<T>(static_cast<double>(elements[i]) * (block % 4 == 1 ? large : 1 / large));
    }
    for (const std::uint32_t item_blocks : {2u, 64u}) {
      check_views({vector_view(elements.data(), dtype, elements.size())}, everything(3),
                  {Schedule::random, 5, item_blocks}, "scaled");
    }
  };
  check.template operator()<float>(DType::k_float32, 1e30);
  check.template operator()<double>(DType::k_float64, 1e250);
}

}  // namespace
}  // namespace tensometer
