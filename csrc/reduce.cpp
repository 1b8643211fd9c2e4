#include "reduce.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>

#include "block.hpp"
#include "counting.hpp"
#include "dispatch.hpp"
#include "fingerprint.hpp"
#include "magnitude.hpp"
#include "openmp.hpp"
#include "pool.hpp"
#include "sampling.hpp"

namespace tensometer {
namespace {

// A chunk is what a thread takes at a time: some blocks short of a group, or whole groups. Both are small enough to
// balance and large enough that handing one out (under 1 microsecond) does not count: 16 blocks of float32 take about 12
// microseconds without histogram. A thirty-second of a large tensor, and up to four groups.
constexpr std::uint64_t chunk_blocks = 16, chunk_groups = 4, chunks_of_tensor = 32;

// Below this many elements in all, waking a thread (10 to 50 microseconds, of about 75 that these take) costs more than it
// saves.
constexpr std::uint64_t parallel_elements = std::uint64_t{1} << 19;
// Threads of a shared team are awake, and have begun after 2 to 5 microseconds.
constexpr std::uint64_t ready_elements = std::uint64_t{1} << 17;

struct Chunk {
  Partial* partial;
  const ElementReader* reader;
  std::uint64_t first, count;  // elements
  std::uint64_t block;         // index of the first block within the partial
  bool groups;                 // results are whole groups
};

struct ChunkResult {
  std::vector<Summary> summaries;
  std::uint64_t hash = 0;
  std::unique_ptr<ByteCounts> bytes;
};

// Memory that a thread keeps between chunks.
struct Scratch {
  alignas(64) std::byte elements[block_size * 16];
  alignas(64) double magnitudes[block_size];
  LogCounter counter;
};

Scratch& scratch() {
  thread_local const std::unique_ptr<Scratch> mine = std::make_unique<Scratch>();
  return *mine;
}

template <class Part>
void magnitudes_of(const std::byte* data, std::uint32_t count, double* out) {
  // Outside these bounds (NaN included) a square may have left float64's range; float32 parts lie inside unless not finite.
  constexpr double low = smallest_unscaled<double>, high = largest_unscaled<double>;
  for (std::uint32_t i = 0; i < count; ++i) {
    Part parts[2];
    std::memcpy(parts, data + i * sizeof parts, sizeof parts);
    const double re = static_cast<double>(parts[0]), im = static_cast<double>(parts[1]);
    out[i] = std::sqrt(re * re + im * im);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    if (out[i] >= low && out[i] < high) continue;
    Part parts[2];
    std::memcpy(parts, data + i * sizeof parts, sizeof parts);
    out[i] = careful_magnitude(std::fabs(static_cast<double>(parts[0])), std::fabs(static_cast<double>(parts[1])));
  }
}

template <class Integer>
void integer_extremes(const void* data, std::uint32_t count, Summary& s) {
  const auto* p = static_cast<const std::byte*>(data);
  std::int64_t lowest = s.integer_min, highest = s.integer_max;
  for (std::uint32_t i = 0; i < count; ++i) {
    Integer value;
    std::memcpy(&value, p + i * sizeof value, sizeof value);
    std::uint64_t bits = static_cast<std::uint64_t>(value);
    if constexpr (std::is_unsigned_v<Integer>) bits ^= std::uint64_t{1} << 63;
    const auto ordered = static_cast<std::int64_t>(bits);
    lowest = std::min(lowest, ordered);
    highest = std::max(highest, ordered);
  }
  s.integer_min = lowest, s.integer_max = highest;
}

// One block of a type that is reduced in lanes: its summary, and its elements counted into the tables, `weight` times each.
Summary reduce_block(DType dtype, const void* data, std::uint32_t count, std::uint32_t weight, unsigned resolution) {
  const InstructionSet& isa = instruction_set();
  Scratch& memory = scratch();
  DType lanes = dtype;
  if (row(dtype).lanes == Lanes::magnitude) {
    const auto* parts = static_cast<const std::byte*>(data);
    if (dtype == DType::k_complex64) {
      magnitudes_of<float>(parts, count, memory.magnitudes);
    } else {
      magnitudes_of<double>(parts, count, memory.magnitudes);
    }
    data = memory.magnitudes;
    lanes = DType::k_float64;
  }
  const auto index = static_cast<std::size_t>(lanes);
  BlockSums sums;
  isa.block->sums[index](data, count, sums);
  Summary s = finish_block(sums, lanes == DType::k_float64);
  if (dtype == DType::k_int64) integer_extremes<std::int64_t>(data, count, s);
  if (dtype == DType::k_uint64) integer_extremes<std::uint64_t>(data, count, s);
  if (weight != 0) isa.histogram->count[index](data, count, resolution, weight, memory.counter.tables(resolution));
  return s;
}

void run_chunk(const Chunk& chunk, ChunkResult& result, Counting& counting) {
  const Options& options = chunk.partial->options;
  const DType dtype = chunk.partial->dtype;
  Scratch& memory = scratch();
  const std::size_t item_size = row(dtype).item_size;
  const bool table = row(dtype).lanes == Lanes::table;
  if (table) result.bytes = std::make_unique<ByteCounts>();
  counting.turn_to(chunk.partial->histogram);
  std::uint64_t block = chunk.block;
  Summary group;
  for (std::uint64_t at = 0; at < chunk.count; at += block_size, ++block) {
    const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, chunk.count - at));
    const void* data = chunk.reader->read(chunk.first + at, size, memory.elements);
    if (options.fingerprint) result.hash += hash_block(data, size * item_size, block);
    if (table) {
      count_bytes(data, size, *result.bytes);
      continue;
    }
    const std::uint32_t weight = block_weight(options.histogram, block);
    const Summary s = reduce_block(dtype, data, size, weight, options.resolution);
    if (weight != 0) counting.add(s, weight);
    if (!chunk.groups) {
      result.summaries.push_back(s);
    } else if (block % fold_width == 0) {
      group = s;
    } else {
      merge(group, s);
      if (block % fold_width == fold_width - 1) result.summaries.push_back(group);
    }
  }
}

void append(const Chunk& chunk, ChunkResult& result) {
  Partial& partial = *chunk.partial;
  for (const Summary& s : result.summaries) partial.fold.push(s, chunk.groups ? 1 : 0);
  partial.hash += result.hash;
  if (result.bytes) {
    for (std::size_t v = 0; v < 256; ++v) (*partial.bytes)[v] += (*result.bytes)[v];
  }
}

// Cuts a range into chunks. Groups are cut at their own borders.
void plan(const Range& range, std::vector<Chunk>& chunks) {
  const std::uint64_t most =
      std::clamp<std::uint64_t>(range.count / (fold_width * block_size * chunks_of_tensor), 1, chunk_groups);
  std::uint64_t block = range.partial->blocks, at = 0;
  while (at < range.count) {
    const std::uint64_t whole = (range.count - at) / block_size;
    const bool groups = block % fold_width == 0 && whole >= fold_width;
    const std::uint64_t blocks = groups ? std::min(whole / fold_width, most) * fold_width
                                        : std::min(fold_width - block % fold_width, chunk_blocks);
    const std::uint64_t count = std::min(blocks * block_size, range.count - at);
    chunks.push_back({range.partial, range.reader, range.first + at, count, block, groups});
    at += count;
    block += blocks;
  }
  range.partial->blocks += (range.count + block_size - 1) / block_size;
}

}  // namespace

Partial::Partial(DType type, const Options& wanted) : dtype(type), options(wanted) {
  histogram.resolution = wanted.resolution;
  if (row(type).lanes == Lanes::table) bytes = std::make_unique<ByteCounts>();
}

Partial::Partial(const Partial& other)
    : dtype(other.dtype), options(other.options), blocks(other.blocks), fold(other.fold), histogram(other.histogram),
      hash(other.hash), order(other.order), bytes(other.bytes ? std::make_unique<ByteCounts>(*other.bytes) : nullptr) {}

TensorSummary Partial::finish(std::span<const std::int64_t> shape, std::uint64_t implicit_zeros) && {
  const FloatEnvironment environment;
  TensorSummary result;
  result.dtype = dtype;
  if (options.fingerprint) result.fingerprint = finish_fingerprint(hash, dtype, shape, order);
  result.shape.assign(shape.begin(), shape.end());
  result.summary = bytes ? summary_of_bytes(dtype, *bytes) : fold.result();
  if (options.histogram != HistogramMode::none) {
    histogram.sampled = options.histogram == HistogramMode::sampled && blocks > sampled_whole;
    result.histogram = bytes ? histogram_of_bytes(dtype, *bytes, options.resolution) : std::move(histogram);
  }
  add_zeros(result, implicit_zeros);
  return result;
}

void add_zeros(TensorSummary& summary, std::uint64_t implicit_zeros) {
  if (implicit_zeros == 0) return;
  const FloatEnvironment environment;
  if (summary.histogram) summary.histogram->add(bin_of(0.0, summary.histogram->resolution), implicit_zeros);
  Summary zeros = zeros_summary(implicit_zeros);
  if (summary.dtype == DType::k_int64) zeros.integer_min = zeros.integer_max = 0;
  if (summary.dtype == DType::k_uint64) zeros.integer_min = zeros.integer_max = INT64_MIN;
  merge(summary.summary, zeros);
}

void reduce(std::span<const Range> ranges, unsigned threads) {
  std::vector<Chunk> chunks;
  std::uint64_t elements = 0;
  for (const Range& range : ranges) {
    plan(range, chunks);
    elements += range.count;
  }
  std::vector<ChunkResult> results(chunks.size());
  const bool alone =
      chunks.size() < 2 || elements < ready_elements || (elements < parallel_elements && !openmp_is_ready());
  const auto helpers = static_cast<unsigned>(alone ? 1 : std::min<std::size_t>(chunks.size(), thread_count(threads)));
  // Small chunks are handed out in runs, so that thousands of tiny tensors do not fight over one counter.
  const std::size_t run = std::clamp<std::size_t>(chunks.size() / (std::size_t{helpers} * 16), 1, 64);
  std::vector<std::vector<Gathered>> gathered(helpers);
  std::atomic<std::size_t> next{0};
  parallel_for(helpers, helpers, [&](std::size_t helper) {
    const FloatEnvironment environment;
    Counting counting(scratch().counter, gathered[helper]);
    for (std::size_t first; (first = next.fetch_add(run, std::memory_order_relaxed)) < chunks.size();) {
      const std::size_t last = std::min(chunks.size(), first + run);
      for (std::size_t i = first; i < last; ++i) run_chunk(chunks[i], results[i], counting);
    }
    counting.hand_over();
  });
  const FloatEnvironment environment;
  for (std::size_t i = 0; i < chunks.size(); ++i) append(chunks[i], results[i]);
  join(gathered);
}

KeptVector<TensorSummary> summarize(std::span<const SparseView> tensors, const Options& options) {
  // A batch at a time, so that a million rows take the memory of their results and little more.
  constexpr std::size_t batch = 1024;
  KeptVector<TensorSummary> results;
  results.reserve(tensors.size());
  std::vector<ElementReader> readers;
  std::vector<Partial> partials;
  std::vector<Range> ranges;
  for (std::size_t first = 0; first < tensors.size(); first += batch) {
    const auto part = tensors.subspan(first, std::min(batch, tensors.size() - first));
    readers.clear(), partials.clear(), ranges.clear();
    readers.reserve(part.size()), partials.reserve(part.size()), ranges.reserve(part.size());
    for (const SparseView& tensor : part) {
      readers.emplace_back(tensor.values);
      partials.emplace_back(tensor.values.dtype, options);
      partials.back().order = readers.back().order();
      ranges.push_back({&partials.back(), &readers.back(), 0, readers.back().count()});
    }
    reduce(ranges, options.threads);
    for (std::size_t i = 0; i < part.size(); ++i) {
      results.push_back(std::move(partials[i]).finish(part[i].shape, part[i].implicit_zeros));
    }
  }
  return results;
}

}  // namespace tensometer
