#include "uniform.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "block.hpp"
#include "bytes.hpp"
#include "dispatch.hpp"
#include "fold.hpp"
#include "pool.hpp"

namespace tensometer {
namespace {

constexpr std::uint64_t chunk_elements = fold_width * block_size;
// From here on counting pairs saves more than clearing and adding up their 8450 counters costs.
constexpr std::uint64_t pairs_from = 16 * block_size;

std::vector<std::int64_t> histogram_of_table(DType dtype, const ByteCounts& counts, std::span<const double> edges) {
  std::vector<std::int64_t> result(edges.size() - 1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const double value = value_of_byte(dtype, byte);
    if (!(value >= edges.front() && value <= edges.back())) continue;
    const auto above = std::upper_bound(edges.begin(), edges.end(), value) - edges.begin();
    const auto bin = std::min<std::ptrdiff_t>(above, static_cast<std::ptrdiff_t>(result.size())) - 1;
    result[static_cast<std::size_t>(bin)] += static_cast<std::int64_t>(counts[byte]);
  }
  return result;
}

// How far the position (x - first) * per_unit, computed in the lane type, can be from the real one, in bins, plus how far an
// edge can be from where equal widths would put it. Three roundings (difference, factor, product), each of at most half a
// unit in the last place of a number up to count: count * 2^-24 (2^-53) apiece, and one more to spare. The edges as the
// vectors see them are rounded to the lane type, which moves a position by no more than the spare.
double margin_of(std::span<const double> edges, double per_unit, Lanes lanes) {
  const double count = static_cast<double>(edges.size() - 1);
  const double epsilon = lanes == Lanes::f32 ? 0x1p-24 : 0x1p-53;
  const auto narrow = [&](double x) { return lanes == Lanes::f32 ? static_cast<double>(static_cast<float>(x)) : x; };
  if (narrow(edges.front()) != edges.front() || narrow(edges.back()) != edges.back()) return 1;
  if (!(per_unit > 0x1p-100 && per_unit < 0x1p100) || count > 0x1p20) return 1;
  double margin = 0;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    margin = std::max(margin, std::fabs((edges[i] - edges.front()) * per_unit - static_cast<double>(i)));
  }
  return margin + 4 * count * epsilon;
}

// What the kernel's tables say about each bin; the counters of what lies outside are left.
void add_counters(const std::uint32_t* tables, const UniformBins& bins, std::span<std::int64_t> result) {
  const std::size_t rows = bins.pairs ? 2 * pair_pitch : 4,
                    pitch = bins.pairs ? pair_pitch : bins.count + std::size_t{1};
  for (std::size_t row = 0; row < rows; ++row, tables += pitch) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < result.size(); ++i) {
      result[i] += tables[i];
      sum += tables[i];
    }
    // In a row of pairs, all of whose second elements are in one bin, the first may also lie outside.
    const std::size_t second = row % pair_pitch;
    if (bins.pairs && second < result.size()) result[second] += sum + tables[result.size()];
  }
}

struct Worker {
  alignas(64) std::byte elements[block_size * 8];
  alignas(64) double lanes[block_size];
};

// Counts elements [first, last) into a table of 32-bit counters.
void count_range(const ElementReader& reader, DType dtype, std::uint64_t first, std::uint64_t last,
                 const UniformBins& bins, std::uint32_t* table) {
  const FloatEnvironment environment;
  const InstructionSet& isa = instruction_set();
  const auto memory = std::make_unique<Worker>();
  for (std::uint64_t at = first; at < last; at += block_size) {
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, last - at));
    const void* data = reader.read(at, count, memory->elements);
    const void* lanes = data;
    const bool as_it_lies = (dtype == DType::k_float32 || dtype == DType::k_float64) &&
                            reinterpret_cast<std::uintptr_t>(data) % row(dtype).item_size == 0;
    if (!as_it_lies) {
      isa.block->widen[static_cast<std::size_t>(dtype)](data, count, memory->lanes);
      lanes = memory->lanes;
    }
    if (row(dtype).lanes == Lanes::f32) {
      isa.uniform->f32(static_cast<const float*>(lanes), count, bins, table);
    } else {
      isa.uniform->f64(static_cast<const double*>(lanes), count, bins, table);
    }
  }
}

}  // namespace

std::vector<std::int64_t> uniform_histogram(const TensorView& view, std::span<const double> edges, unsigned threads,
                                            bool all_inside) {
  const Lanes lanes = row(view.dtype).lanes;
  if (lanes == Lanes::magnitude) {
    throw std::invalid_argument("x: has dtype " + std::string(row(view.dtype).name) + ", which has no order");
  }
  const ElementReader reader(view);
  const auto chunks = static_cast<std::size_t>((reader.count() + chunk_elements - 1) / chunk_elements);
  const unsigned helpers = chunks < 2 ? 1 : thread_count(threads);
  const bool table_type = lanes == Lanes::table;
  ByteCounts bytes{};
  std::vector<std::int64_t> result(edges.size() - 1);
  const double per_unit = static_cast<double>(result.size()) / (edges.back() - edges.front());
  const bool pairs = lanes == Lanes::f32 && result.size() < pair_pitch && reader.count() >= pairs_from;
  const UniformBins bins{edges.data(), static_cast<std::uint32_t>(result.size()), pairs, all_inside,
                         per_unit,     margin_of(edges, per_unit, lanes)};
  std::mutex mutex;
  parallel_for(chunks, helpers, [&](std::size_t chunk) {
    const std::uint64_t first = chunk * chunk_elements, last = std::min(reader.count(), first + chunk_elements);
    if (table_type) {
      ByteCounts mine{};
      std::byte buffer[block_size];
      for (std::uint64_t at = first; at < last; at += block_size) {
        const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, last - at));
        count_bytes(reader.read(at, count, buffer), count, mine);
      }
      const std::lock_guard lock(mutex);
      for (std::size_t v = 0; v < mine.size(); ++v) bytes[v] += mine[v];
    } else {
      std::vector<std::uint32_t> mine(pairs ? 2 * bin_pairs : 4 * (result.size() + 1));
      count_range(reader, view.dtype, first, last, bins, mine.data());
      const std::lock_guard lock(mutex);
      add_counters(mine.data(), bins, result);
    }
  });
  return table_type ? histogram_of_table(view.dtype, bytes, edges) : result;
}

}  // namespace tensometer
