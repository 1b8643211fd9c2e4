// Streams: cut anywhere they give the bits of the whole; merged, the exact counts and the moments within a bound.
#include "stream.hpp"

#include "data.hpp"

namespace tensometer {
namespace {

// Feeds the elements in random pieces, with a save and restore now and then.
TensorSummary streamed(DType dtype, const std::byte* data, std::size_t count, const Options& options, Random& random) {
  const std::size_t item = row(dtype).item_size;
  Stream stream(dtype, options);
  std::size_t at = 0;
  while (at < count) {
    const std::size_t limits[] = {3, 200, 4096, 5000, 70000, 700000};
    const std::size_t piece = std::min<std::size_t>(count - at, random.below(limits[random.below(6)]));
    const ExactMemory memory(data + at * item, piece * item, random.below(64));
    const TensorView view = vector_view(memory.data(), dtype, piece);
    stream.update({view, view.shape, 0});
    at += piece;
    CHECK(stream.count() == at, stream.count(), " elements counted of ", at);
    if (random.below(8) == 0) stream = Stream::restore(stream.save());
  }
  return stream.summary();
}

TEST(streams_cut_anywhere_equal_the_whole) {
  Random random(100);
  for (const DType dtype : all_types()) {
    for (const std::size_t count :
         {std::size_t{0}, std::size_t{1}, std::size_t{4095}, std::size_t{4096}, std::size_t{4097}, std::size_t{20000},
          std::size_t{64 * 4096 + 1}, std::size_t{600000}}) {
      if (check::quick() && count > 20000 && static_cast<unsigned>(dtype) % 4 != 0) continue;
      const std::vector<std::byte> bytes = random_bytes(count * row(dtype).item_size, count);
      for (const unsigned threads : {1u, 3u}) {
        const Options options{HistogramMode::full, 6, true, threads};
        const TensorSummary whole = summarize_one(vector_view(bytes.data(), dtype, count), options);
        CHECK(streamed(dtype, bytes.data(), count, options, random) == whole, row(dtype).name, ", ", count,
              " elements, ", threads, " threads");
      }
    }
  }
}

TEST(streams_of_ordinary_elements_cut_anywhere_equal_the_whole) {
  Random random(101);
  for_each_lane_type([&]<class T>(DType dtype) {
    const std::vector<std::byte> bytes = bytes_of(ordinary_elements<T>(700000, 102));
    for (const HistogramMode mode : {HistogramMode::none, HistogramMode::sampled}) {
      const Options options{mode, 3, false, 2};
      const TensorSummary whole = summarize_one(vector_view(bytes.data(), dtype, 700000), options);
      for (unsigned turn = 0; turn < (check::quick() ? 1u : 6u); ++turn) {
        CHECK(streamed(dtype, bytes.data(), 700000, options, random) == whole, row(dtype).name, ", turn ", turn);
      }
    }
  });
}

TEST(streams_take_views_of_any_layout) {
  const std::vector<float> elements = ordinary_elements<float>(100 * 100, 103);
  TensorView reversed = contiguous(elements.data() + 99 * 100, DType::k_float32, {100, 100});
  reversed.strides[0] *= -1;
  Stream stream(DType::k_float32, {});
  stream.update({reversed, reversed.shape, 0});
  stream.update({reversed, reversed.shape, 0});
  std::vector<float> order;
  for (unsigned turn = 0; turn < 2; ++turn) {
    for (std::size_t i = 100; i-- > 0;) order.insert(order.end(), &elements[i * 100], &elements[i * 100] + 100);
  }
  const TensorView flat = vector_view(order.data(), DType::k_float32, order.size());
  CHECK(stream.summary() == summarize_one(flat));
}

// What merging streams owes: everything but the moments exactly. Cut elsewhere, the blocks are others, so the moments
// differ by the rounding of the lanes too: a lane adds 32 elements, and 31 roundings of float32 sums of magnitudes stay
// below 31 * 2^-24 of them. The contract owes 2e-7 for the variance.
void check_merged(const TensorSummary& merged, const TensorSummary& whole, const char* place) {
  constexpr double bound = 31 * 0x1p-24;
  const Summary &a = merged.summary, &b = whole.summary;
  CHECK(a.count == b.count && a.zeros == b.zeros && a.negatives == b.negatives && a.nan == b.nan, place);
  CHECK(a.posinf == b.posinf && a.neginf == b.neginf && a.min == b.min && a.max == b.max, place);
  CHECK(a.integer_min == b.integer_min && a.integer_max == b.integer_max, place);
  CHECK(merged.histogram == whole.histogram, place);
  CHECK(std::fabs(a.l1() - b.l1()) <= bound * b.l1(), place, ": l1 ", a.l1(), " for ", b.l1());
  CHECK(std::fabs(a.average() - b.average()) <= bound * b.abs_mean() || b.finite() == 0, place, ": mean ", a.average());
  CHECK(std::fabs(a.m2 - b.m2) <= 2e-7 * b.m2 || a.exponent != b.exponent, place, ": m2 ", a.m2, " for ", b.m2);
}

TEST(streams_merge_within_their_bound) {
  Random random(104);
  for_each_lane_type([&]<class T>(DType dtype) {
    const std::vector<T> elements = ordinary_elements<T>(300000, 105);
    const Options options{HistogramMode::full, 6, false, 2};
    const TensorSummary whole = summarize_one(vector_view(elements.data(), dtype, elements.size()), options);
    Stream all(dtype, options);
    for (std::size_t at = 0; at < elements.size();) {
      const std::size_t piece = std::min<std::size_t>(elements.size() - at, 1 + random.below(90000));
      Stream part(dtype, options);
      const TensorView view = vector_view(&elements[at], dtype, piece);
      part.update({view, view.shape, 0});
      all.merge(part);
      at += piece;
    }
    CHECK(all.count() == elements.size(), row(dtype).name);
    check_merged(Stream::restore(all.save()).summary(), whole, row(dtype).name.data());
  });
}

TEST(merging_whole_blocks_rounds_in_float64_only) {
  // Cut between blocks, the blocks' sums are the same, and only merges differ.
  const std::vector<float> elements = ordinary_elements<float>(640 * block_size, 106);
  const TensorView all = vector_view(elements.data(), DType::k_float32, elements.size());
  const Summary whole = summarize_one(all).summary;
  for (const std::size_t blocks : {1u, 7u, 64u, 100u}) {
    Summary merged;
    for (std::size_t at = 0; at < elements.size(); at += blocks * block_size) {
      const std::size_t count = std::min<std::size_t>(blocks * block_size, elements.size() - at);
      merge(merged, summarize_one(vector_view(&elements[at], DType::k_float32, count)).summary);
    }
    // A merge rounds sums of positive terms by under 8 * 2^-53; no block passes more than 640 of them on either side.
    constexpr double bound = 2 * 640 * 8 * 0x1p-53;
    CHECK(std::fabs(merged.m2 - whole.m2) <= bound * whole.m2, blocks, ": ", merged.m2, " for ", whole.m2);
    CHECK(std::fabs(merged.abs_sum - whole.abs_sum) <= bound * whole.abs_sum, blocks);
    CHECK(std::fabs(merged.mean - whole.mean) <= bound * whole.abs_mean(), blocks, ": ", merged.mean, " for ",
          whole.mean);
  }
}

TEST(merging_with_nothing_changes_nothing) {
  const std::vector<float> elements = ordinary_elements<float>(5000, 107);
  const Summary some = summarize_one(vector_view(elements.data(), DType::k_float32, 5000)).summary;
  Summary left = some, right;
  merge(left, Summary{});
  merge(right, some);
  CHECK(difference(left, some).empty() && difference(right, some).empty());
  // The same for what holds nothing finite, but for its counts.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  merge(left, summarize_one(vector_view(&nan, DType::k_float32, 1)).summary);
  CHECK(left.nan == 1 && same_bits(left.mean, some.mean) && same_bits(left.m2, some.m2));
}

TEST(merging_different_exponents_keeps_the_larger) {
  for (const double scale : {0x1p900, 0x1p-900}) {
    const std::vector<double> a{1 * scale, 2 * scale, 4 * scale}, b{1, 2, 4};
    const Summary x = summarize_one(vector_view(a.data(), DType::k_float64, 3)).summary;
    const Summary y = summarize_one(vector_view(b.data(), DType::k_float64, 3)).summary;
    for (const bool swapped : {false, true}) {
      Summary merged = swapped ? y : x;
      merge(merged, swapped ? x : y);
      CHECK(std::fabs(merged.l1() - (7 * scale + 7)) <= 1e-15 * (7 * scale + 7), scale, ": ", merged.l1());
      CHECK(merged.min == std::min(1.0, scale) && merged.max == std::max(4.0, 4 * scale), scale);
    }
  }
}

TEST(streams_refuse_what_does_not_fit) {
  Stream stream(DType::k_float32, {});
  const double x = 1;
  const TensorView wide = vector_view(&x, DType::k_float64, 1);
  check::throws<std::invalid_argument>([&] { stream.update({wide, wide.shape, 0}); }, "float64");
  check::throws<std::invalid_argument>([&] { stream.merge(Stream(DType::k_float64, {})); }, "float64");
  check::throws<std::invalid_argument>([&] { stream.merge(Stream(DType::k_float32, {HistogramMode::full})); },
                                       "histogram");
  CHECK(stream.count() == 0 && stream.summary().summary == Summary{});
}

}  // namespace
}  // namespace tensometer
