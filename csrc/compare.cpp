#include "compare.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "block.hpp"
#include "counting.hpp"
#include "dispatch.hpp"
#include "pool.hpp"
#include "sampling.hpp"

namespace tensometer {
namespace {

struct Scratch {
  alignas(64) std::byte elements[2][block_size * 8];
  alignas(64) double lanes[3][block_size];
  LogCounter counter;
};

Scratch& scratch() {
  thread_local const std::unique_ptr<Scratch> mine = std::make_unique<Scratch>();
  return *mine;
}

// Elements as lanes: where they lie if that is what they are, otherwise in `memory`.
template <class Lane>
const Lane* lanes_of(DType dtype, const void* data, std::uint32_t count, double* memory) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % alignof(Lane) == 0;
  if (aligned && dtype == (std::is_same_v<Lane, float> ? DType::k_float32 : DType::k_float64)) {
    return static_cast<const Lane*>(data);
  }
  auto* lanes = reinterpret_cast<Lane*>(memory);
  if (row(dtype).lanes == Lanes::table) {
    Lane values[256];
    for (unsigned byte = 0; byte < 256; ++byte) values[byte] = static_cast<Lane>(value_of_byte(dtype, byte));
    for (std::uint32_t i = 0; i < count; ++i) lanes[i] = values[static_cast<const std::uint8_t*>(data)[i]];
  } else {
    instruction_set().block->widen[static_cast<std::size_t>(dtype)](data, count, lanes);
  }
  return lanes;
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
PairPart pair_block(DType dtype, const void* a, const void* b, std::uint32_t count, std::uint32_t weight,
                    unsigned resolution, std::byte* last) {
  constexpr bool narrow = std::is_same_v<Lane, float>;
  constexpr auto lane_type = static_cast<std::size_t>(narrow ? DType::k_float32 : DType::k_float64);
  const InstructionSet& isa = instruction_set();
  Scratch& memory = scratch();
  const Lane* old_lanes = lanes_of<Lane>(dtype, a, count, memory.lanes[0]);
  const Lane* new_lanes = lanes_of<Lane>(dtype, b, count, memory.lanes[1]);
  auto* difference = reinterpret_cast<Lane*>(memory.lanes[2]);
  const auto* last_lanes = reinterpret_cast<const Lane*>(last);
  PairSums pair;
  PairPart part;
  if constexpr (narrow) {
    if (last == nullptr) {
      isa.pair->f32(old_lanes, new_lanes, count, difference, pair);
    } else {
      part.along_last = isa.pair->update_f32(old_lanes, new_lanes, last_lanes, count, difference, pair);
    }
  } else {
    if (last == nullptr) {
      isa.pair->f64(old_lanes, new_lanes, count, difference, pair);
    } else {
      part.along_last = isa.pair->update_f64(old_lanes, new_lanes, last_lanes, count, difference, pair);
    }
    if (dtype == DType::k_int64) pair.equal = subtract_integers<std::int64_t>(a, b, count, difference);
    if (dtype == DType::k_uint64) pair.equal = subtract_integers<std::uint64_t>(a, b, count, difference);
  }
  BlockSums sums;
  isa.block->sums[lane_type](difference, count, sums);
  if (weight != 0) {
    isa.histogram->count[lane_type](difference, count, resolution, weight, memory.counter.tables(resolution));
  }
  if (last != nullptr) std::memcpy(last, difference, count * sizeof(Lane));
  part.summary = finish_block(sums, !narrow);
  part.totals = {pair.equal,       pair.nonfinite,    pair.dot,         pair.old_squares,
                 pair.new_squares, pair.old_exponent, pair.new_exponent};
  return part;
}

bool float_lanes(DType dtype) { return row(dtype).lanes == Lanes::f32 || row(dtype).lanes == Lanes::table; }

PairPart run_group(const Pair& pair, const Options& options, std::uint64_t group, Counting& counting) {
  Scratch& memory = scratch();
  const std::uint64_t blocks = (pair.old_elements->count() + block_size - 1) / block_size;
  const std::size_t lane_size = row(difference_dtype(pair.dtype)).item_size;
  PairPart whole;
  for (std::uint64_t block = group * fold_width; block < std::min(blocks, (group + 1) * fold_width); ++block) {
    const std::uint64_t at = block * block_size;
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, pair.old_elements->count() - at));
    const void* x = pair.old_elements->read(at, count, memory.elements[0]);
    const void* y = pair.new_elements->read(at, count, memory.elements[1]);
    const std::uint32_t weight = block_weight(options.histogram, block);
    std::byte* kept = pair.last == nullptr ? nullptr : pair.last + at * lane_size;
    const auto reduce = float_lanes(pair.dtype) ? &pair_block<float> : &pair_block<double>;
    const PairPart part = reduce(pair.dtype, x, y, count, weight, options.resolution, kept);
    if (weight != 0) counting.add(part.summary, weight);
    if (block % fold_width == 0) {
      whole = part;
    } else {
      merge(whole, part);
    }
  }
  return whole;
}

}  // namespace

DType difference_dtype(DType dtype) { return float_lanes(dtype) ? DType::k_float32 : DType::k_float64; }

std::vector<PairResult> compare(std::span<const Pair> pairs, const Options& options) {
  std::vector<std::size_t> ends;  // of each pair's groups among all
  for (const Pair& pair : pairs) {
    const std::uint64_t groups = (pair.old_elements->count() + fold_width * block_size - 1) / (fold_width * block_size);
    ends.push_back((ends.empty() ? 0 : ends.back()) + static_cast<std::size_t>(groups));
  }
  const std::size_t count = ends.empty() ? 0 : ends.back();
  std::vector<PairPart> groups(count);
  std::vector<PairResult> results(pairs.size());
  for (PairResult& result : results) result.histogram.resolution = options.resolution;
  const auto helpers =
      static_cast<unsigned>(count < 2 ? 1 : std::min<std::size_t>(count, thread_count(options.threads)));
  std::vector<std::vector<Gathered>> gathered(helpers);
  std::atomic<std::size_t> next{0};
  parallel_for(helpers, helpers, [&](std::size_t helper) {
    const FloatEnvironment environment;
    Counting counting(scratch().counter, gathered[helper]);
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      const auto pair = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), i) - ends.begin());
      counting.turn_to(results[pair].histogram);
      groups[i] = run_group(pairs[pair], options, i - (pair == 0 ? 0 : ends[pair - 1]), counting);
    }
    counting.hand_over();
  });
  const FloatEnvironment environment;
  std::size_t group = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    Fold<PairPart> fold;
    for (; group < ends[i]; ++group) fold.push(groups[group], 1);
    results[i].whole = fold.result();
  }
  join(gathered);
  return results;
}

TensorSummary difference_of(PairResult&& result, DType dtype, std::span<const std::int64_t> shape,
                            const Options& options) {
  TensorSummary difference;
  difference.dtype = difference_dtype(dtype);
  difference.shape.assign(shape.begin(), shape.end());
  difference.summary = result.whole.summary;
  if (options.histogram != HistogramMode::none) {
    difference.histogram = std::move(result.histogram);
    difference.histogram->sampled =
        options.histogram == HistogramMode::sampled && difference.summary.count > sampled_whole * block_size;
  }
  return difference;
}

void check_pair(const TensorView& a, const TensorView& b) {
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

Comparison compare(const TensorView& old_view, const TensorView& new_view, const Options& options) {
  check_pair(old_view, new_view);
  // Laid out alike, both may be read in memory order; otherwise only logical order pairs the same elements.
  const bool alike = old_view.strides == new_view.strides;
  const ElementReader a(old_view, alike), b(new_view, alike);
  const Pair pair{&a, &b, old_view.dtype};
  PairResult found = std::move(compare(std::span(&pair, 1), options).front());
  Comparison result;
  result.totals = found.whole.totals;
  result.difference = difference_of(std::move(found), old_view.dtype, old_view.shape, options);
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
