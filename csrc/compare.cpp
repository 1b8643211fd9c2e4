#include "compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "block.hpp"
#include "dispatch.hpp"
#include "pool.hpp"

namespace tensometer {
namespace {

struct PairPart {
  Summary summary;
  PairTotals totals;
};

void raise_exponent(double& dot, double& squares, std::int64_t& exponent, std::int64_t wanted) {
  if (exponent == wanted) return;
  const int shift = static_cast<int>(exponent - wanted);
  dot = std::ldexp(dot, shift);
  squares = std::ldexp(squares, 2 * shift);
  exponent = wanted;
}

// As for Summary: the larger exponent wins, and a side without magnitude takes the other's.
void align(PairTotals& a, PairTotals& b) {
  const auto common = [](double squares_a, std::int64_t a_exponent, double squares_b, std::int64_t b_exponent) {
    return squares_a == 0 ? b_exponent : squares_b == 0 ? a_exponent : std::max(a_exponent, b_exponent);
  };
  const std::int64_t old_exponent = common(a.old_squares, a.old_exponent, b.old_squares, b.old_exponent);
  const std::int64_t new_exponent = common(a.new_squares, a.new_exponent, b.new_squares, b.new_exponent);
  for (PairTotals* totals : {&a, &b}) {
    raise_exponent(totals->dot, totals->old_squares, totals->old_exponent, old_exponent);
    raise_exponent(totals->dot, totals->new_squares, totals->new_exponent, new_exponent);
  }
}

void merge(PairTotals& a, PairTotals b) {
  align(a, b);
  a.equal += b.equal;
  a.nonfinite += b.nonfinite;
  a.dot += b.dot;
  a.old_squares += b.old_squares;
  a.new_squares += b.new_squares;
}

void merge(PairPart& a, const PairPart& b) {
  merge(a.summary, b.summary);
  merge(a.totals, b.totals);
}

struct Group {
  PairPart whole;
  LogHistogram histogram;
};

struct Scratch {
  alignas(64) std::byte elements[2][block_size * 8];
  alignas(64) double lanes[3][block_size];
  LogCounter counter;
};

Scratch& scratch() {
  thread_local const std::unique_ptr<Scratch> mine = std::make_unique<Scratch>();
  return *mine;
}

template <class Lane>
void widen_any(DType dtype, const void* data, std::uint32_t count, Lane* lanes) {
  if (row(dtype).lanes == Lanes::table) {
    Lane values[256];
    for (unsigned byte = 0; byte < 256; ++byte) values[byte] = static_cast<Lane>(value_of_byte(dtype, byte));
    for (std::uint32_t i = 0; i < count; ++i) lanes[i] = values[static_cast<const std::uint8_t*>(data)[i]];
  } else {
    instruction_set().block->widen[static_cast<std::size_t>(dtype)](data, count, lanes);
  }
}

// 64-bit integers are subtracted and compared as such: float64 does not tell neighbours beyond 2^53 apart. Returns how many
// are equal.
template <class Integer>
std::uint32_t subtract_integers(const void* a, const void* b, std::uint32_t count, double* difference) {
  __extension__ using Int128 = __int128;
  std::uint32_t equal = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    Integer x, y;
    std::memcpy(&x, static_cast<const std::byte*>(a) + i * sizeof x, sizeof x);
    std::memcpy(&y, static_cast<const std::byte*>(b) + i * sizeof y, sizeof y);
    difference[i] = static_cast<double>(static_cast<Int128>(y) - static_cast<Int128>(x));
    equal += x == y;
  }
  return equal;
}

template <class Lane>
PairPart pair_block(DType dtype, const void* a, const void* b, std::uint32_t count, const Options& options) {
  constexpr bool narrow = std::is_same_v<Lane, float>;
  constexpr auto lane_type = static_cast<std::size_t>(narrow ? DType::k_float32 : DType::k_float64);
  const InstructionSet& isa = instruction_set();
  Scratch& memory = scratch();
  auto* old_lanes = reinterpret_cast<Lane*>(memory.lanes[0]);
  auto* new_lanes = reinterpret_cast<Lane*>(memory.lanes[1]);
  auto* difference = reinterpret_cast<Lane*>(memory.lanes[2]);
  widen_any(dtype, a, count, old_lanes);
  widen_any(dtype, b, count, new_lanes);
  PairSums pair;
  if constexpr (narrow) {
    isa.pair->f32(old_lanes, new_lanes, count, difference, pair);
  } else {
    isa.pair->f64(old_lanes, new_lanes, count, difference, pair);
    if (dtype == DType::k_int64) pair.equal = subtract_integers<std::int64_t>(a, b, count, difference);
    if (dtype == DType::k_uint64) pair.equal = subtract_integers<std::uint64_t>(a, b, count, difference);
  }
  BlockSums sums;
  isa.block->sums[lane_type](difference, count, sums);
  if (options.histogram != HistogramMode::none) {
    isa.histogram->count[lane_type](difference, count, options.resolution, memory.counter.tables(options.resolution));
  }
  PairPart part;
  part.summary = finish_block(sums, !narrow);
  part.totals = {pair.equal,       pair.nonfinite,    pair.dot,         pair.old_squares,
                 pair.new_squares, pair.old_exponent, pair.new_exponent};
  return part;
}

bool float_lanes(DType dtype) { return row(dtype).lanes == Lanes::f32 || row(dtype).lanes == Lanes::table; }

void check(const TensorView& a, const TensorView& b) {
  const auto shape_text = [](const std::vector<std::int64_t>& shape) {
    std::string text = "(";
    for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
    return text + (shape.size() == 1 ? ",)" : ")");
  };
  if (a.dtype != b.dtype) {
    throw std::invalid_argument("new: has dtype " + std::string(row(b.dtype).name) + ", old has " +
                                std::string(row(a.dtype).name));
  }
  if (a.shape != b.shape) {
    throw std::invalid_argument("new: has shape " + shape_text(b.shape) + ", old has " + shape_text(a.shape));
  }
  if (row(a.dtype).lanes == Lanes::magnitude) {
    throw std::invalid_argument("old: complex tensors cannot be compared; compare their real and imaginary parts");
  }
}

void run_group(const ElementReader& a, const ElementReader& b, DType dtype, const Options& options, std::uint64_t group,
               Group& result) {
  const FloatEnvironment environment;
  Scratch& memory = scratch();
  const std::uint64_t first = group * fold_width * block_size;
  const std::uint64_t last = std::min(a.count(), first + fold_width * block_size);
  Counted counted;
  for (std::uint64_t at = first; at < last; at += block_size) {
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, last - at));
    const void* x = a.read(at, count, memory.elements[0]);
    const void* y = b.read(at, count, memory.elements[1]);
    const PairPart part = float_lanes(dtype) ? pair_block<float>(dtype, x, y, count, options)
                                             : pair_block<double>(dtype, x, y, count, options);
    tensometer::count(part.summary, counted);
    if (at == first) {
      result.whole = part;
    } else {
      merge(result.whole, part);
    }
  }
  if (options.histogram != HistogramMode::none) {
    result.histogram = memory.counter.extract(options.resolution, counted, 1);
  }
}

}  // namespace

Comparison compare(const TensorView& old_view, const TensorView& new_view, const Options& options) {
  check(old_view, new_view);
  // Laid out alike, both may be read in memory order; otherwise only logical order pairs the same elements.
  const bool alike = old_view.strides == new_view.strides;
  const ElementReader a(old_view, alike), b(new_view, alike);
  const std::uint64_t group_elements = fold_width * block_size;
  const auto groups = static_cast<std::size_t>((a.count() + group_elements - 1) / group_elements);
  std::vector<Group> results(groups);
  parallel_for(groups, groups < 2 ? 1 : thread_count(options.threads),
               [&](std::size_t i) { run_group(a, b, old_view.dtype, options, i, results[i]); });
  const FloatEnvironment environment;
  Fold<PairPart> fold;
  Comparison result;
  if (options.histogram != HistogramMode::none) {
    result.difference.histogram.emplace();
    result.difference.histogram->resolution = options.resolution;
  }
  for (const Group& group : results) {
    fold.push(group.whole, 1);
    if (result.difference.histogram) merge(*result.difference.histogram, group.histogram);
  }
  const PairPart all = fold.result();
  result.difference.dtype = float_lanes(old_view.dtype) ? DType::k_float32 : DType::k_float64;
  result.difference.shape = old_view.shape;
  result.difference.summary = all.summary;
  result.totals = all.totals;
  return result;
}

Comparison merge(const Comparison& a, const Comparison& b) {
  Comparison both;
  both.difference = merge(a.difference, b.difference);
  both.totals = a.totals;
  const FloatEnvironment environment;
  merge(both.totals, b.totals);
  return both;
}

double Comparison::changed_fraction() const {
  return count() ? static_cast<double>(changed()) / static_cast<double>(count()) : nan_value;
}

double Comparison::old_l2() const {
  return std::ldexp(std::sqrt(totals.old_squares), static_cast<int>(totals.old_exponent));
}

double Comparison::new_l2() const {
  return std::ldexp(std::sqrt(totals.new_squares), static_cast<int>(totals.new_exponent));
}

double Comparison::relative_update() const {
  if (totals.nonfinite != 0) return infinity;
  const double change = difference.summary.l2();
  return change == 0 ? 0 : change / old_l2();
}

double Comparison::max_abs_difference() const { return totals.nonfinite != 0 ? infinity : difference.summary.linf(); }

double Comparison::cosine() const {
  const double sizes = std::sqrt(totals.old_squares) * std::sqrt(totals.new_squares);
  return sizes == 0 ? nan_value : std::clamp(totals.dot / sizes, -1.0, 1.0);
}

}  // namespace tensometer
