#include "state.hpp"

#include <algorithm>
#include <functional>

namespace tensometer {
namespace {

// First word of every state: changes whenever its layout does.
constexpr std::uint32_t summary_magic = 0x31736d74, histogram_magic = 0x31686d74, comparison_magic = 0x31636d74;
constexpr std::int64_t exponent_limit = 1022;

bool possible_exponent(std::int64_t exponent) { return exponent >= -exponent_limit && exponent <= exponent_limit; }

// The value behind `magic`, which is all that the bytes hold.
template <class Read>
auto restored(const std::string& bytes, std::uint32_t magic, Read read) {
  ByteReader in(bytes);
  if (in.value<std::uint32_t>() != magic) ByteReader::fail();
  auto value = read(in);
  in.end();
  return value;
}

}  // namespace

void write(ByteWriter& out, const LogHistogram& histogram) {
  out.value(histogram.resolution);
  out.value(histogram.sampled);
  out.list(histogram.bins);
  out.list(histogram.counts);
}

LogHistogram read_histogram(ByteReader& in) {
  LogHistogram histogram;
  histogram.resolution = in.value<unsigned>();
  histogram.sampled = in.value<std::uint8_t>() != 0;
  in.list(histogram.bins);
  in.list(histogram.counts);
  const bool fits = histogram.resolution <= max_resolution && histogram.bins.size() == histogram.counts.size() &&
                    std::is_sorted(histogram.bins.begin(), histogram.bins.end(), std::less_equal<>()) &&
                    (histogram.bins.empty() || histogram.bins.back() < (2u << (8 + histogram.resolution)));
  if (!fits) ByteReader::fail();
  std::uint64_t total = 0;
  for (const std::uint64_t count : histogram.counts) {
    if (count >= count_limit || (total += count) >= count_limit) ByteReader::fail();
  }
  return histogram;
}

DType read_dtype(ByteReader& in) {
  const auto code = in.value<std::uint8_t>();
  if (code >= dtype_count) ByteReader::fail();
  return static_cast<DType>(code);
}

void write(ByteWriter& out, const TensorSummary& s) {
  out.value(s.dtype);
  out.list(s.shape);
  out.value(s.summary);
  out.value(s.histogram.has_value());
  if (s.histogram) write(out, *s.histogram);
  out.value(s.fingerprint.has_value());
  if (s.fingerprint) out.value(*s.fingerprint);
}

bool possible(const Summary& s) {
  return s.count < count_limit && s.nan <= s.count && s.posinf <= s.count && s.neginf <= s.count &&
         s.nonfinite() <= s.count && s.zeros <= s.finite() && s.negatives <= s.finite() - s.zeros &&
         possible_exponent(s.exponent);
}

TensorSummary read_summary(ByteReader& in) {
  TensorSummary s;
  s.dtype = read_dtype(in);
  in.list(s.shape);
  s.summary = in.value<Summary>();
  bool fits = possible(s.summary);
  for (const std::int64_t extent : s.shape)
    fits = fits && extent >= 0 && static_cast<std::uint64_t>(extent) < count_limit;
  if (!fits) ByteReader::fail();
  if (in.value<std::uint8_t>() != 0) s.histogram = read_histogram(in);
  if (in.value<std::uint8_t>() != 0) s.fingerprint = in.value<std::uint64_t>();
  return s;
}

std::string save(const TensorSummary& summary) {
  ByteWriter out;
  out.value(summary_magic);
  write(out, summary);
  return out.take();
}

std::string save(const LogHistogram& histogram) {
  ByteWriter out;
  out.value(histogram_magic);
  write(out, histogram);
  return out.take();
}

std::string save(const Comparison& comparison) {
  ByteWriter out;
  out.value(comparison_magic);
  write(out, comparison.difference);
  out.value(comparison.totals);
  return out.take();
}

TensorSummary restore_summary(const std::string& bytes) { return restored(bytes, summary_magic, read_summary); }

LogHistogram restore_histogram(const std::string& bytes) { return restored(bytes, histogram_magic, read_histogram); }

Comparison restore_comparison(const std::string& bytes) {
  return restored(bytes, comparison_magic, [](ByteReader& in) {
    Comparison comparison;
    comparison.difference = read_summary(in);
    comparison.totals = in.value<PairTotals>();
    const PairTotals& totals = comparison.totals;
    if (totals.equal > comparison.count() || totals.nonfinite > comparison.changed() ||
        !possible_exponent(totals.old_exponent) || !possible_exponent(totals.new_exponent)) {
      ByteReader::fail();
    }
    return comparison;
  });
}

}  // namespace tensometer
