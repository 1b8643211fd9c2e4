// The kernels that compare, emulated, against the engine on the CPU with ==.
#include <list>

#include "compared.hpp"
#include "emulated.hpp"

namespace tensometer {
namespace {

using cuda::Emulated;
using emulation::Schedule;

// Pairs, once without and once with a last difference.
class Pairs {
 public:
  void add(const TensorView& old_view, const TensorView& new_view) {
    views_.push_back({old_view, new_view, {}});
    const std::size_t count = old_view.count();
    lasts_.push_back(last_lanes(old_view.dtype, count, count + 1));
    views_.push_back({old_view, new_view, vector_view(nullptr, difference_dtype(old_view.dtype), count)});
  }
  template <class T>
  void add(DType dtype, const std::vector<T>& a, const std::vector<T>& b) {
    add(vector_view(a.data(), dtype, a.size()), vector_view(b.data(), dtype, b.size()));
  }

  void check(const Options& options, const Emulated& how, const char* what) const {
    std::list<std::vector<std::byte>> here = lasts_, there = lasts_;
    std::vector<PairView> mine = with(here), theirs = with(there);
    const std::vector<Compared> found = cuda::emulate_pairs(mine, options, how);
    for (std::size_t i = 0; i < mine.size(); ++i) {
      const std::string wrong = how_it_differs(found[i], expected_of(theirs[i], options));
      CHECK(wrong.empty(), what, ", ", row(mine[i].old_view.dtype).name, mine[i].last ? ", update " : ", pair ", i,
            " of ", mine[i].old_view.count(), " elements: ", wrong);
    }
    auto other = there.begin();
    for (const std::vector<std::byte>& lanes : here) CHECK(lanes == *other++, what, ": another difference is kept");
  }

 private:
  std::vector<PairView> with(std::list<std::vector<std::byte>>& lasts) const {
    std::vector<PairView> views = views_;
    auto at = lasts.begin();
    for (PairView& view : views) {
      if (view.last) view.last->data = (at++)->data();
    }
    return views;
  }

  std::vector<PairView> views_;
  std::list<std::vector<std::byte>> lasts_;
};

Options counted(unsigned resolution, HistogramMode histogram = HistogramMode::full) {
  Options options;
  options.histogram = histogram, options.resolution = resolution, options.threads = 1;
  return options;
}

const std::vector<std::size_t> lengths = {0, 1, 2, 31, 33, 127, 128, 129, 255, 1025, 4095, 4096, 4097, 8195, 12288};

TEST(pairs_at_many_lengths) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> plain = ordinary_elements<T>(12288, 1), wild = wild_elements<T>(12288, 2);
    const std::vector<T> near = beside(plain, 3), strange = beside(wild, 4);
    Pairs pairs;
    for (const std::size_t length : lengths) {
      pairs.add(vector_view(plain.data(), dtype, length), vector_view(near.data(), dtype, length));
      const std::size_t skipped = 12288 - length;
      pairs.add(vector_view(wild.data() + skipped, dtype, length),
                vector_view(strange.data() + skipped, dtype, length));
    }
    pairs.check(counted(3), {}, "many lengths");
  });
}

TEST(pairs_in_any_order_of_threads_and_blocks) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> plain = ordinary_elements<T>(3 * block_size + 3, 3),
                         wild = wild_elements<T>(block_size + 9, 4);
    const std::vector<T> near = beside(plain, 5), strange = beside(wild, 6);
    Pairs pairs;
    pairs.add(dtype, plain, near);
    pairs.add(dtype, wild, strange);
    for (const Schedule schedule : {Schedule::forward, Schedule::reverse, Schedule::random}) {
      if (check::quick() && schedule != Schedule::random) continue;
      pairs.check(counted(3), {schedule, 11, 2}, "any order");
    }
  });
}

// More than a group, in items of any size.
TEST(pairs_of_large_tensors) {
  const std::vector<bfloat16> elements = ordinary_elements<bfloat16>(133 * block_size + 77, 5);
  const std::vector<float> floats = ordinary_elements<float>(65 * block_size, 6);
  const std::vector<bfloat16> near = beside(elements, 7);
  const std::vector<float> others = beside(floats, 8);
  Pairs pairs;
  pairs.add(DType::k_bfloat16, elements, near);
  pairs.add(DType::k_float32, floats, others);
  for (const std::uint32_t item_blocks : {1u, 8u, 64u}) {
    pairs.check(counted(3), {Schedule::random, item_blocks, item_blocks}, "large");
  }
  pairs.check(counted(4, HistogramMode::sampled), {Schedule::reverse, 0, 64}, "sampled");
  pairs.check(counted(2, HistogramMode::sampled), {Schedule::reverse, 0, 8}, "sampled");
}

TEST(pairs_at_every_misalignment) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(block_size + 130, 7), near = beside(elements, 8);
    const std::size_t bytes = elements.size() * sizeof(T);
    std::list<ExactMemory> memories;
    Pairs pairs;
    for (std::size_t offset = 0; offset < 16; offset += sizeof(T)) {
      const std::byte* a = memories.emplace_back(elements.data(), bytes, 16 + offset).data();
      const std::byte* b = memories.emplace_back(near.data(), bytes, offset % 4 * sizeof(T)).data();
      pairs.add(vector_view(a, dtype, elements.size()), vector_view(b, dtype, elements.size()));
    }
    pairs.check(counted(3), {}, "misaligned");
  });
}

TEST(pairs_of_bytes) {
  std::list<std::vector<std::byte>> memories;
  Pairs pairs;
  for (const DType dtype : all_types()) {
    if (row(dtype).lanes != Lanes::table) continue;
    for (const std::size_t length : {1, 127, 129, 4095, 4096, 4100}) {
      std::vector<std::uint8_t> any = wild_elements<std::uint8_t>(length, length);
      if (dtype == DType::k_bool) {
        for (std::uint8_t& byte : any) byte &= 1;
      }
      const std::byte* a = memories.emplace_back(bytes_of(any)).data();
      const std::byte* b = memories.emplace_back(bytes_of(beside(any, length))).data();
      pairs.add(vector_view(a, dtype, length), vector_view(b, dtype, length));
    }
  }
  for (const unsigned resolution : {3u, 6u}) pairs.check(counted(resolution), {}, "bytes");
}

TEST(pairs_of_elements_that_lie_apart) {
  for_each_lane_type([]<class T>(DType dtype) {
    const auto size = static_cast<std::int64_t>(sizeof(T));
    const std::vector<T> elements = ordinary_elements<T>(10 * 40 * 50, 8), near = beside(elements, 9);
    TensorView a = contiguous(elements.data(), dtype, {10, 40, 50}), b = contiguous(near.data(), dtype, {10, 40, 50});
    Pairs pairs;
    for (TensorView* view : {&a, &b}) {
      view->shape = {10, 40, 25}, view->strides = {40 * 50 * size, 50 * size, 2 * size};
    }
    pairs.add(a, b);
    b = contiguous(near.data(), dtype, {10, 40, 25});
    pairs.add(a, b);  // one of them apart
    pairs.add(b, a);
    for (TensorView* view : {&a, &b}) view->shape = {50, 40}, view->strides = {size, 50 * size};
    pairs.add(a, b);  // both transposed alike: in memory order
    b = contiguous(near.data(), dtype, {50, 40});
    pairs.add(a, b);  // one of them: in logical order
    a = contiguous(elements.data(), dtype, {5, 4, 5, 4, 5});
    b = contiguous(near.data() + 39, dtype, {5, 4, 5, 4, 5});
    b.strides = {9 * 40 * size, 40 * size, 5 * size, size, -7 * size};  // four dimensions at most are left of it
    b.data += 4 * 7 * size;
    b.shape = a.shape = {5, 4, 5, 4};
    a.strides.resize(4), b.strides.resize(4);
    pairs.add(a, b);
    pairs.check(counted(3), {Schedule::random, 3, 2}, "apart");
  });
}

TEST(pairs_with_histograms_of_every_resolution) {
  for_each_lane_type([]<class T>(DType dtype) {
    const std::vector<T> plain = ordinary_elements<T>(block_size + 5, 9), near = beside(plain, 10);
    Pairs pairs;
    pairs.add(dtype, plain, near);
    for (unsigned resolution = 0; resolution <= max_resolution; ++resolution) {
      pairs.check(counted(resolution), {}, "resolution");
    }
    pairs.check(counted(3, HistogramMode::none), {}, "no histogram");
  });
}

template <class T>
T special_of(double value) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    // Float16 and bfloat16: their patterns are as wide, and differ in where the exponent ends.
    const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16);
    if constexpr (std::is_same_v<T, bfloat16>) return {bits};
    const auto sign = static_cast<std::uint16_t>(bits & 0x8000);
    if (value != value) return {0x7e00};
    return {static_cast<std::uint16_t>(sign | (std::fabs(value) < infinity ? value == 0 ? 0 : 0x7bff : 0x7c00))};
  }
}

// What is not finite, or large, in either tensor or both, at any place of a block.
TEST(pairs_with_special_values_at_every_place) {
  const auto check = []<class T>(DType dtype) {
    const double specials[] = {1e30, -1e30, 0.0, -0.0, nan_value, infinity, -infinity, 3e38};
    std::list<std::vector<T>> all;
    Pairs pairs;
    unsigned turn = 0;
    for (std::uint32_t place = 0; place < block_size; place += check::quick() ? 509 : 67) {
      for (const double special : specials) {
        std::vector<T>& a = all.emplace_back(ordinary_elements<T>(block_size, 12));
        std::vector<T>& b = all.emplace_back(beside(a, place));
        if (turn % 3 != 1) a[place] = special_of<T>(special);
        if (turn % 3 != 0) b[place] = special_of<T>(turn % 4 == 3 ? -special : special);
        ++turn;
        pairs.add(dtype, a, b);
      }
    }
    pairs.check(counted(3), {}, "special values");
  };
  check.template operator()<float>(DType::k_float32);
  check.template operator()<bfloat16>(DType::k_bfloat16);
  check.template operator()<float16>(DType::k_float16);
  check.template operator()<double>(DType::k_float64);
}

// A last difference that is not finite, or makes an infinite product, and old or new elements that are out of range.
TEST(pairs_beside_any_last_difference) {
  const auto check = []<class T>(DType dtype, T large) {
    for (const T old_scale : {T(1), large, 1 / large}) {
      for (const T new_scale : {T(1), large}) {
        std::vector<T> a = ordinary_elements<T>(block_size + 200, 20), b = beside(a, 21);
        for (T& x : a) x *= old_scale;
        for (T& y : b) y *= new_scale;
        for (const double special : {1.0, infinity, nan_value, 3e38}) {
          std::vector<T> here = ordinary_elements<T>(a.size(), 22);
          here[70] = static_cast<T>(special), here[block_size + 100] = static_cast<T>(-special);
          std::vector<T> there = here;
          PairView view{vector_view(a.data(), dtype, a.size()), vector_view(b.data(), dtype, b.size()),
                        vector_view(here.data(), dtype, a.size())};
          const Compared found = cuda::emulate_pairs({view}, counted(3), {}).front();
          view.last->data = reinterpret_cast<const std::byte*>(there.data());
          const std::string wrong = how_it_differs(found, expected_of(view, counted(3)));
          CHECK(wrong.empty(), row(dtype).name, ", ", old_scale, ", ", new_scale, ", ", special, ": ", wrong);
          CHECK(std::memcmp(here.data(), there.data(), here.size() * sizeof(T)) == 0);
        }
      }
    }
  };
  check(DType::k_float32, 1e30f);
  check(DType::k_float64, 1e250);
}

// Blocks whose squares or differences leave the lanes' range, and others that do not, merge.
TEST(pairs_that_are_scaled) {
  const auto check = []<class T>(DType dtype, double large) {
    std::vector<T> a = ordinary_elements<T>(6 * block_size + 9, 13), b = beside(a, 14);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double scale[] = {1, large, 1 / large, 1};
      a[i] = static_cast<T>(static_cast<double>(a[i]) * scale[i / block_size % 4]);
      b[i] = static_cast<T>(static_cast<double>(b[i]) * scale[(i / block_size + i / (3 * block_size)) % 4]);
    }
    Pairs pairs;
    pairs.add(dtype, a, b);
    for (const std::uint32_t item_blocks : {2u, 64u})
      pairs.check(counted(3), {Schedule::random, 5, item_blocks}, "scaled");
  };
  check.template operator()<float>(DType::k_float32, 1e30);
  check.template operator()<double>(DType::k_float64, 1e250);
}

TEST(pairs_that_cannot_be_compared) {
  const std::vector<float> elements(64);
  const TensorView x = contiguous(elements.data(), DType::k_float32, {4, 4});
  const auto refused = [&](const PairView& view, const char* words) {
    check::throws<std::invalid_argument>([&] { cuda::plan(std::span(&view, 1), {}, 8); }, words);
  };
  refused({x, contiguous(elements.data(), DType::k_int32, {4, 4}), {}}, "new: has dtype int32, old has float32");
  refused({x, contiguous(elements.data(), DType::k_float32, {16}), {}}, "new: has shape (16,), old has (4, 4)");
  const TensorView complex = contiguous(elements.data(), DType::k_complex64, {2});
  refused({complex, complex, {}}, "old: complex tensors cannot be compared");
  TensorView swapped = x;
  swapped.swapped = true;
  refused({x, swapped, {}}, "new: tensor 0 is a CUDA tensor in the other byte order");
  refused({x, x, contiguous(elements.data(), DType::k_float64, {4, 4})},
          "last: has dtype float64, the difference has float32");
  refused({x, x, contiguous(elements.data(), DType::k_float32, {15})}, "last: has 15 elements, old has 16");
  TensorView apart = x;
  apart.strides = {32, 8};
  refused({x, x, apart}, "last: its elements do not lie one after another");
}

}  // namespace
}  // namespace tensometer
