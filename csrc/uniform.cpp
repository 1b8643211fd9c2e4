#include "uniform.hpp"

#include <algorithm>
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
    isa.block->widen[static_cast<std::size_t>(dtype)](data, count, memory->lanes);
    if (row(dtype).lanes == Lanes::f32) {
      isa.uniform->f32(reinterpret_cast<const float*>(memory->lanes), count, bins, table);
    } else {
      isa.uniform->f64(memory->lanes, count, bins, table);
    }
  }
}

}  // namespace

std::vector<std::int64_t> uniform_histogram(const TensorView& view, std::span<const double> edges, unsigned threads) {
  if (row(view.dtype).lanes == Lanes::magnitude) {
    throw std::invalid_argument("x: has dtype " + std::string(row(view.dtype).name) + ", which has no order");
  }
  const ElementReader reader(view);
  const auto chunks = static_cast<std::size_t>((reader.count() + chunk_elements - 1) / chunk_elements);
  const unsigned helpers = chunks < 2 ? 1 : thread_count(threads);
  const bool table_type = row(view.dtype).lanes == Lanes::table;
  ByteCounts bytes{};
  std::vector<std::int64_t> result(edges.size() - 1);
  const UniformBins bins{edges.data(), static_cast<std::uint32_t>(result.size()),
                         static_cast<double>(result.size()) / (edges.back() - edges.front())};
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
      std::vector<std::uint32_t> mine(result.size() + 1);  // the last counter takes what lies outside
      count_range(reader, view.dtype, first, last, bins, mine.data());
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < result.size(); ++i) result[i] += mine[i];
    }
  });
  return table_type ? histogram_of_table(view.dtype, bytes, edges) : result;
}

}  // namespace tensometer
