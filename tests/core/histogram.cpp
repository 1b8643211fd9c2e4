// The logarithmic histogram as a value, against counting element by element and against sorted elements.
#include "histogram.hpp"

#include <algorithm>
#include <map>

#include "data.hpp"

namespace tensometer {
namespace {

LogHistogram histogram_by_hand(const std::vector<double>& values, unsigned resolution) {
  std::map<std::uint32_t, std::uint64_t> counted;
  for (const double value : values) {
    if (std::fabs(value) < infinity) ++counted[bin_of(value, resolution)];
  }
  LogHistogram histogram;
  histogram.resolution = resolution;
  for (const auto& [bin, count] : counted) histogram.bins.push_back(bin), histogram.counts.push_back(count);
  return histogram;
}

template <class T>
std::vector<double> values_of(const std::vector<T>& elements) {
  std::vector<double> values;
  for (const T element : elements) values.push_back(static_cast<double>(widen(element)));
  return values;
}

TEST(log_histogram_counts_every_finite_element) {
  for_each_lane_type([]<class T>(DType dtype) {
    for (const std::vector<T>& elements :
         {ordinary_elements<T>(70000, 50), wild_elements<T>(9000, 51), std::vector<T>(300), std::vector<T>()}) {
      for (const unsigned resolution : {0u, 3u, 6u, 7u}) {
        const auto found =
            summarize_one(vector_view(elements.data(), dtype, elements.size()), {HistogramMode::full, resolution});
        CHECK(found.histogram == histogram_by_hand(values_of(elements), resolution), row(dtype).name, ", resolution ",
              resolution, ", ", elements.size(), " elements");
      }
    }
  });
}

TEST(log_histogram_bins_hold_what_their_edges_say) {
  Random random(52);
  for (unsigned resolution = 0; resolution <= max_resolution; ++resolution) {
    LogHistogram histogram;
    histogram.resolution = resolution;
    for (unsigned i = 0; i < 20000; ++i) {
      const double value = i % 2 == 0 ? wild<double>(random) : static_cast<double>(wild<float>(random));
      if (!(std::fabs(value) < 0x1p128)) continue;
      const std::uint32_t bin = bin_of(value, resolution);
      const double low = histogram.lower_edge(bin), high = histogram.upper_edge(bin);
      CHECK(std::signbit(value) ? low < value && value <= high : low <= value && value < high, value, " in ", low,
            " to ", high);
    }
  }
}

TEST(log_histogram_quantiles_are_within_half_a_bin) {
  std::vector<double> sorted = values_of(ordinary_elements<float>(20001, 53));
  std::sort(sorted.begin(), sorted.end());
  for (unsigned resolution = 0; resolution <= max_resolution; ++resolution) {
    const LogHistogram histogram = histogram_by_hand(sorted, resolution);
    for (unsigned i = 0; i <= 1000; ++i) {
      const double q = i / 1000.0, exact = sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1))];
      const double estimate = histogram.quantile(q);
      CHECK(std::fabs(estimate - exact) <= std::ldexp(std::fabs(exact), -static_cast<int>(resolution) - 1), "q ", q,
            ": ", estimate, " for ", exact, " at resolution ", resolution);
    }
  }
  CHECK(std::isnan(LogHistogram{}.quantile(0.5)));
  for (const double wrong : {-0.1, 1.1, nan_value}) {
    check::throws<std::invalid_argument>([&] { static_cast<void>(LogHistogram{}.quantile(wrong)); }, "q: ");
  }
}

TEST(log_histogram_coarsens_to_exactly_the_coarser_one) {
  const std::vector<double> values = values_of(wild_elements<float>(20000, 54));
  for (unsigned fine = 0; fine <= max_resolution; ++fine) {
    const LogHistogram histogram = histogram_by_hand(values, fine);
    for (unsigned coarse = 0; coarse <= fine; ++coarse) {
      CHECK(histogram.coarsen(coarse) == histogram_by_hand(values, coarse), fine, " to ", coarse);
    }
    check::throws<std::invalid_argument>([&] { static_cast<void>(histogram.coarsen(fine + 1)); }, "finer");
  }
}

TEST(log_histograms_merge_by_addition) {
  const std::vector<double> a = values_of(wild_elements<float>(3000, 55)),
                            b = values_of(ordinary_elements<float>(3000, 56));
  std::vector<double> both = a;
  both.insert(both.end(), b.begin(), b.end());
  for (const unsigned left : {0u, 3u, 6u}) {
    for (const unsigned right : {0u, 3u, 6u}) {
      LogHistogram merged = histogram_by_hand(a, left);
      merge(merged, histogram_by_hand(b, right));
      CHECK(merged == histogram_by_hand(both, std::min(left, right)), left, " ", right);
    }
  }
  LogHistogram with_nothing = histogram_by_hand(a, 6);
  merge(with_nothing, LogHistogram{});
  CHECK(with_nothing == histogram_by_hand(a, 6));
}

TEST(log_histogram_spreads_over_uniform_bins) {
  const std::vector<double> values = values_of(ordinary_elements<float>(50000, 57));
  const LogHistogram histogram = histogram_by_hand(values, 6);
  std::vector<double> edges;
  for (int i = -40; i <= 40; ++i) edges.push_back(i / 8.0);  // every edge is a bin's edge or 1/64 of one off
  const std::vector<double> counts = histogram.to_uniform(edges);
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto exact = static_cast<double>(
        std::count_if(values.begin(), values.end(), [&](double x) { return x >= edges[i] && x < edges[i + 1]; }));
    sum += counts[i];
    // Off by no more than the elements of the two log bins that the edges cut: 4 of 50000 an octave's 64th, with room.
    CHECK(std::fabs(counts[i] - exact) <= 0.02 * static_cast<double>(values.size()) / 8 + 30, "bin ", i, ": ",
          counts[i], " for ", exact);
  }
  CHECK(std::fabs(sum - static_cast<double>(values.size())) < 1e-6, sum);
  check::throws<std::invalid_argument>([&] { static_cast<void>(histogram.to_uniform(std::vector<double>{1})); },
                                       "edges");
  check::throws<std::invalid_argument>([&] { static_cast<void>(histogram.to_uniform(std::vector<double>{1, 1})); },
                                       "edges");
}

TEST(log_histogram_says_what_a_format_loses) {
  Random random(58);
  std::vector<float> elements(30000);
  for (float& x : elements)
    x = static_cast<float>(std::ldexp(random.bell(), static_cast<int>(random.between(-30, 18))));
  elements[7] = 0, elements[8] = -0.0f;
  const TensorSummary s =
      summarize_one(vector_view(elements.data(), DType::k_float32, elements.size()), {HistogramMode::full, 6});
  for (const std::string_view name :
       {"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}) {
    const Format& format = format_named(name);
    std::uint64_t vanish = 0, small = 0, large = 0;
    for (const float x : elements) {
      const double size = std::fabs(x);
      vanish += size != 0 && size < format.vanishes_below;
      small += size >= format.vanishes_below && size < format.smallest;
      large += size >= format.overflows_at;
    }
    CHECK(underflow(s, name) == vanish, name, ": ", underflow(s, name), " for ", vanish);
    CHECK(subnormal(s, name) == small, name, ": ", subnormal(s, name), " for ", small);
    if (name.starts_with("float8")) CHECK(overflow(s, name) == large, name, ": ", overflow(s, name), " for ", large);
    CHECK(headroom(s, name) == format.largest / s.summary.linf(), name);
  }
  check::throws<std::invalid_argument>([&] { underflow(s, "float7"); }, "float16");
}

TEST(sampled_histogram_counts_whole_blocks) {
  // 16 blocks all counted, then one in two, four, eight, so many times over: whose product with the key begins with zeros.
  constexpr std::size_t blocks = 64 + 29 * 8 + 5;
  const std::vector<bfloat16> elements = ordinary_elements<bfloat16>(blocks * block_size, 59);
  LogHistogram expected;
  expected.sampled = true;
  for (std::size_t block = 0; block < blocks; ++block) {
    const unsigned rarity = block < 16 ? 0 : block < 32 ? 1 : block < 64 ? 2 : 3;
    const bool counted = rarity == 0 || (block * 0x9e3779b97f4a7c15ull) >> (64 - rarity) == 0;
    const unsigned weight = counted ? 1u << rarity : 0;
    const auto first = elements.begin() + static_cast<std::ptrdiff_t>(block * block_size);
    LogHistogram one = histogram_by_hand(values_of(std::vector<bfloat16>(first, first + block_size)), 6);
    for (std::uint64_t& count : one.counts) count *= weight;
    if (weight != 0) merge(expected, one);
  }
  for (const unsigned threads : {1u, 3u}) {
    const auto found = summarize_one(vector_view(elements.data(), DType::k_bfloat16, elements.size()),
                                     {HistogramMode::sampled, 6, false, threads});
    CHECK(found.histogram == expected, threads, " threads");
  }
}

TEST(sampled_histogram_of_few_blocks_is_exact) {
  const std::vector<float> elements = ordinary_elements<float>(16 * block_size, 60);
  const TensorView view = vector_view(elements.data(), DType::k_float32, elements.size());
  const TensorSummary whole = summarize_one(view, {HistogramMode::full, 6, false, 1});
  const TensorSummary sampled = summarize_one(view, {HistogramMode::sampled, 6, false, 1});
  CHECK(sampled.histogram == whole.histogram && !sampled.histogram->sampled);
}

// Where whole blocks are zero, the share of zeros in a sample is off by percents: it must not count as underflow.
TEST(zeros_of_a_sampled_tensor_are_no_underflow) {
  constexpr std::size_t blocks = 64 + 25 * 8;
  std::vector<float> elements(blocks * block_size, 1.0f);
  for (std::size_t block = 64; block < blocks; ++block) {
    const bool counted = (block * 0x9e3779b97f4a7c15ull) >> 61 == 0;
    const auto first = elements.begin() + static_cast<std::ptrdiff_t>(block * block_size);
    if (counted) std::fill_n(first, block_size / 2, 0.0f);
    if (counted) std::fill_n(first, 16, 1e-30f);
  }
  const TensorSummary s = summarize_one(vector_view(elements.data(), DType::k_float32, elements.size()),
                                        {HistogramMode::sampled, 6, false, 1});
  CHECK(s.histogram->sampled && s.histogram->total() > elements.size() / 2);
  CHECK(underflow(s, "float16") == s.histogram->count_magnitudes(1e-31, 1e-29), underflow(s, "float16"));
  CHECK(subnormal(s, "float16") == 0, subnormal(s, "float16"));
}

}  // namespace
}  // namespace tensometer
