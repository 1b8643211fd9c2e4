#include "histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "summary.hpp"

namespace tensometer {
namespace {

std::uint32_t half_of(unsigned resolution) { return 1u << (8 + resolution); }

// Magnitude index of the first bin that is not finite: all-ones exponent.
std::uint32_t finite_bins(unsigned resolution) { return 255u << resolution; }

double magnitude_edge(std::uint32_t index, unsigned resolution) {
  if (index == finite_bins(resolution)) return 0x1p128;
  return static_cast<double>(std::bit_cast<float>(index << (23 - resolution)));
}

std::uint32_t magnitude_index(double size, unsigned resolution) {
  if (size >= 0x1p128) return finite_bins(resolution) - 1;
  float rounded = static_cast<float>(size);
  if (static_cast<double>(rounded) > size) rounded = std::nextafterf(rounded, 0.0f);
  return std::bit_cast<std::uint32_t>(rounded) >> (23 - resolution);
}

}  // namespace

std::uint32_t bin_of(double value, unsigned resolution) {
  const std::uint32_t index = magnitude_index(std::fabs(value), resolution), half = half_of(resolution);
  return std::signbit(value) ? half - 1 - index : half + index;
}

std::uint64_t LogHistogram::total() const {
  std::uint64_t sum = 0;
  for (std::uint64_t count : counts) sum += count;
  return sum;
}

double LogHistogram::lower_edge(std::uint32_t bin) const {
  const std::uint32_t half = half_of(resolution);
  return bin >= half ? magnitude_edge(bin - half, resolution) : -magnitude_edge(half - bin, resolution);
}

double LogHistogram::upper_edge(std::uint32_t bin) const { return lower_edge(bin + 1); }

double LogHistogram::quantile(double q) const {
  if (!(q >= 0 && q <= 1)) throw std::invalid_argument("q: " + std::to_string(q) + " is not between 0 and 1");
  const std::uint64_t all = total();
  if (all == 0) return nan_value;
  const auto rank = static_cast<std::uint64_t>(q * static_cast<double>(all - 1));
  std::uint64_t before = 0;
  const std::uint32_t half = half_of(resolution);
  for (std::size_t i = 0; i < bins.size(); ++i) {
    before += counts[i];
    if (before <= rank) continue;
    if (bins[i] == half || bins[i] + 1 == half) return 0;  // zero and sub-normals too small to tell from it
    return (lower_edge(bins[i]) + upper_edge(bins[i])) / 2;
  }
  return nan_value;
}

LogHistogram LogHistogram::coarsen(unsigned coarser) const {
  if (coarser > resolution) {
    throw std::invalid_argument("resolution: " + std::to_string(coarser) + " is finer than this histogram's " +
                                std::to_string(resolution));
  }
  LogHistogram result;
  result.resolution = coarser;
  result.sampled = sampled;
  const unsigned shift = resolution - coarser;
  for (std::size_t i = 0; i < bins.size(); ++i) {
    const std::uint32_t bin = bins[i] >> shift;  // order and both halves survive the shift
    if (!result.bins.empty() && result.bins.back() == bin) {
      result.counts.back() += counts[i];
    } else {
      result.bins.push_back(bin);
      result.counts.push_back(counts[i]);
    }
  }
  return result;
}

std::vector<double> LogHistogram::to_uniform(std::span<const double> edges) const {
  if (edges.size() < 2)
    throw std::invalid_argument("edges: " + std::to_string(edges.size()) + " given, at least 2 needed");
  for (std::size_t i = 1; i < edges.size(); ++i) {
    if (!(edges[i - 1] < edges[i])) throw std::invalid_argument("edges: must increase, do not at " + std::to_string(i));
  }
  std::vector<double> result(edges.size() - 1, 0.0);
  const std::uint32_t half = half_of(resolution);
  for (std::size_t i = 0; i < bins.size(); ++i) {
    const double count = static_cast<double>(counts[i]);
    double low = lower_edge(bins[i]), high = upper_edge(bins[i]);
    if (bins[i] == half || bins[i] + 1 == half) low = high = 0;
    auto at = static_cast<std::size_t>(std::upper_bound(edges.begin(), edges.end(), low) - edges.begin());
    if (low == high) {
      if (at > 0 && (at < edges.size() || low == edges.back())) result[std::min(at, edges.size() - 1) - 1] += count;
      continue;
    }
    for (at = at == 0 ? 1 : at; at < edges.size() && edges[at - 1] < high; ++at) {
      const double inside = std::min(high, edges[at]) - std::max(low, edges[at - 1]);
      result[at - 1] += count * (inside / (high - low));
    }
  }
  return result;
}

void LogHistogram::add(std::uint32_t bin, std::uint64_t count) {
  if (count == 0) return;
  const auto at = std::lower_bound(bins.begin(), bins.end(), bin);
  const auto index = at - bins.begin();
  if (at != bins.end() && *at == bin) {
    counts[static_cast<std::size_t>(index)] += count;
  } else {
    bins.insert(at, bin);
    counts.insert(counts.begin() + index, count);
  }
}

std::uint64_t LogHistogram::count_magnitudes(double low, double high) const {
  std::uint64_t sum = 0;
  const std::uint32_t half = half_of(resolution);
  // Magnitude indices [first, end): from the first edge at or above low to the last one at or below high.
  std::uint32_t first = low > 0 ? magnitude_index(low, resolution) : 0;
  if (magnitude_edge(first, resolution) < low) ++first;
  const std::uint32_t end = high >= 0x1p128 ? finite_bins(resolution) : magnitude_index(high, resolution);
  for (std::size_t i = 0; i < bins.size(); ++i) {
    const std::uint32_t index = bins[i] >= half ? bins[i] - half : half - 1 - bins[i];
    if (index >= first && index < end) sum += counts[i];
  }
  return sum;
}

void merge(LogHistogram& a, const LogHistogram& b) {
  if (a.resolution > b.resolution) a = a.coarsen(b.resolution);
  const LogHistogram coarse = b.resolution > a.resolution ? b.coarsen(a.resolution) : LogHistogram{};
  const LogHistogram& other = b.resolution > a.resolution ? coarse : b;
  a.sampled = a.sampled || b.sampled;
  if (a.bins == other.bins) {
    for (std::size_t i = 0; i < a.counts.size(); ++i) a.counts[i] += other.counts[i];
    return;
  }
  // Without a branch that depends on which of the two has a bin: nobody can foretell it.
  const std::size_t a_size = a.bins.size(), b_size = other.bins.size();
  std::vector<std::uint32_t> bins(a_size + b_size);
  std::vector<std::uint64_t> counts(a_size + b_size);
  std::size_t i = 0, j = 0, size = 0;
  for (; i < a_size && j < b_size; ++size) {
    const std::uint32_t x = a.bins[i], y = other.bins[j];
    const std::size_t take_a = x <= y, take_b = y <= x;
    bins[size] = take_a != 0 ? x : y;
    counts[size] = (take_a != 0 ? a.counts[i] : 0) + (take_b != 0 ? other.counts[j] : 0);
    i += take_a, j += take_b;
  }
  for (; i < a_size; ++i, ++size) bins[size] = a.bins[i], counts[size] = a.counts[i];
  for (; j < b_size; ++j, ++size) bins[size] = other.bins[j], counts[size] = other.counts[j];
  a.bins.assign(bins.begin(), bins.begin() + static_cast<std::ptrdiff_t>(size));
  a.counts.assign(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(size));
}

std::uint32_t* LogCounter::tables(unsigned resolution) {
  const std::size_t size = std::size_t{2} << (9 + resolution);
  if (tables_.size() < size) tables_.resize(size, 0);
  return tables_.data();
}

namespace {

// Appends the counters of one sign, from magnitude index `top` down, and zeroes them. Most lines of a table are empty, so
// lines are tested whole; the search ends once all `expected` elements are found, but never before the line of zero, as
// zeros are not among the expected and may be of either sign.
template <class Append>
void drain(std::uint32_t* even, std::uint32_t* odd, std::uint32_t top, std::uint64_t expected, const Append& append) {
  constexpr std::uint32_t line = 16;
  std::uint64_t found = 0;
  for (std::uint32_t first = top / line * line;; first = found < expected ? first - line : 0) {
    std::uint32_t any = 0;
    for (std::uint32_t k = 0; k < line; ++k) any |= even[first + k] | odd[first + k];
    if (any != 0) {
      for (std::uint32_t i = first + line; i-- > first;) {
        const std::uint32_t number = even[i] + odd[i];
        if (number != 0) append(i, number);
        found += number;
      }
      std::fill_n(even + first, line, 0u);
      std::fill_n(odd + first, line, 0u);
    }
    if (first == 0) return;
  }
}

}  // namespace

LogHistogram LogCounter::extract(unsigned resolution, const Counted& counted) {
  LogHistogram result;
  result.resolution = resolution;
  const std::uint32_t half = half_of(resolution), finite = finite_bins(resolution);
  std::uint32_t* even = tables(resolution);
  std::uint32_t* odd = even + 2 * half;
  for (std::uint32_t* table : {even, even + half, odd, odd + half}) std::fill(table + finite, table + half, 0u);
  if (!(counted.lowest <= counted.highest)) return result;  // no element was finite
  const std::uint32_t top_negative = counted.lowest < 0 ? magnitude_index(-counted.lowest, resolution) : 0;
  const std::uint32_t top_positive = counted.highest > 0 ? magnitude_index(counted.highest, resolution) : 0;
  bins_.clear();
  counts_.clear();
  const auto append = [&](std::uint32_t bin, std::uint32_t number) {
    bins_.push_back(bin);
    counts_.push_back(number);
  };
  drain(even + half, odd + half, top_negative, counted.negatives,
        [&](std::uint32_t i, std::uint32_t number) { append(half - 1 - i, number); });
  const auto positive = static_cast<std::ptrdiff_t>(bins_.size());
  drain(even, odd, top_positive, counted.positives,
        [&](std::uint32_t i, std::uint32_t number) { append(half + i, number); });
  std::reverse(bins_.begin() + positive, bins_.end());
  std::reverse(counts_.begin() + positive, counts_.end());
  result.bins.assign(bins_.begin(), bins_.end());
  result.counts.assign(counts_.begin(), counts_.end());
  return result;
}

}  // namespace tensometer
