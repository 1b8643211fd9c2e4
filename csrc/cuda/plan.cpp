#include "cuda/plan.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>
#include <utility>

#include "block.hpp"
#include "cuda/shared.hpp"
#include "fingerprint.hpp"

namespace tensometer::cuda {
namespace {

constexpr std::uint64_t most_elements = std::uint64_t{1} << 40;

std::uint64_t blocks_of(std::uint64_t count) { return (count + block_size - 1) / block_size; }

}  // namespace

TensorError::TensorError(const std::string& name, std::size_t number, const std::string& what)
    : std::invalid_argument(name + ": tensor " + std::to_string(number) + " " + what), argument(name), index(number),
      why(what) {}

Tensor entry(const TensorView& view, const ElementReader& reader, const Options& options, const std::string& argument,
             std::size_t index) {
  if (view.swapped) throw TensorError(argument, index, "is a CUDA tensor in the other byte order");
  // Of a view that repeats a few elements; what has memory is smaller.
  if (reader.count() > most_elements) throw TensorError(argument, index, "has more than 2^40 elements");
  if (reader.dims().size() > most_dims) {
    throw TensorError(argument, index,
                      "has a layout of " + std::to_string(reader.dims().size()) +
                          " strided dimensions, at most 4 are read where they lie; make it contiguous");
  }
  Tensor tensor{};
  tensor.data = view.data;
  tensor.count = reader.count();
  tensor.dtype = static_cast<std::uint8_t>(view.dtype);
  tensor.histogram = static_cast<std::uint8_t>(options.histogram);
  tensor.resolution = static_cast<std::uint8_t>(options.resolution);
  tensor.fingerprint = options.fingerprint;
  for (const ElementReader::Dim& dim : reader.dims()) {
    tensor.extent[tensor.dims] = static_cast<std::uint64_t>(dim.extent);
    tensor.stride[tensor.dims++] = dim.stride;
  }
  return tensor;
}

std::uint64_t cut_into_items(const Tensor& tensor, std::uint32_t index, std::uint32_t item_blocks,
                             std::vector<Item>& items) {
  const std::uint64_t blocks = blocks_of(tensor.count), groups = tensor.grouped ? blocks / fold_width : 0;
  for (std::uint64_t first = 0; first < blocks; first += item_blocks) {
    const std::uint64_t group = first / fold_width;
    const std::uint64_t record = group < groups ? group : groups + (first - groups * fold_width);
    const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(item_blocks, blocks - first));
    items.push_back({first, tensor.first_record + record, index, size});
  }
  return groups + (blocks - groups * fold_width);
}

LogHistogram histogram_of(std::span<const BinWord> words, unsigned resolution) {
  // Bins are patterns: positive ones ascend, negative ones follow and descend in value; all-ones exponents are no values.
  const std::uint32_t half = 1u << (8 + resolution), finite = 255u << resolution;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> bins;
  for_each_bin(words, [&](std::uint32_t bin, std::uint64_t count) {
    if (bin % half < finite) bins.emplace_back(bin, count);
  });
  LogHistogram histogram;
  histogram.resolution = resolution;
  const auto append = [&](std::uint32_t bin, std::uint64_t count) {
    histogram.bins.push_back(bin);
    histogram.counts.push_back(count);
  };
  const auto split = std::partition_point(bins.begin(), bins.end(), [&](const auto& bin) { return bin.first < half; });
  for (auto at = bins.end(); at != split;) {
    --at;
    append(2 * half - 1 - at->first, at->second);
  }
  for (auto at = bins.begin(); at != split; ++at) append(half + at->first, at->second);
  return histogram;
}

ByteCounts bytes_of(std::span<const BinWord> words) {
  ByteCounts counts{};
  for_each_bin(words, [&](std::uint32_t bin, std::uint64_t count) { counts[bin] = count; });
  return counts;
}

std::uint64_t counters_of(DType dtype, const Options& options) {
  if (row(dtype).lanes == Lanes::table) return byte_counters;
  return options.histogram == HistogramMode::none ? 0 : counters_of(options.resolution);
}

void Plan::add(Tensor tensor, const Options& options, std::uint32_t item_blocks, bool joined) {
  tensor.grouped = item_blocks == fold_width;
  tensor.joined = joined;
  tensor.first_record = records;
  tensor.first_counter = joined ? tensors.back().first_counter : counters;
  const std::uint64_t own = counters_of(static_cast<DType>(tensor.dtype), options);
  if (!joined) counters += own;
  const std::uint64_t shared = own <= counters_of(shared_resolution) ? own : 0;
  shared_bytes = std::max(shared_bytes, static_cast<std::uint32_t>(sizeof(Shared) + shared * sizeof(std::uint32_t)));
  records += cut_into_items(tensor, static_cast<std::uint32_t>(tensors.size()), item_blocks, items);
  tensors.push_back(tensor);
}

Plan plan(std::span<const TensorView> views, const Options& options, std::uint32_t item_blocks) {
  Plan plan;
  for (const TensorView& view : views) {
    plan.add(entry(view, ElementReader(view), options, "x", plan.tensors.size()), options, item_blocks);
  }
  return plan;
}

std::uint32_t item_blocks_for(std::span<const TensorView> views, std::uint32_t concurrent) {
  std::uint64_t blocks = 0;
  for (const TensorView& view : views) blocks += blocks_of(view.count());
  const std::uint64_t share = std::clamp<std::uint64_t>(blocks / (8 * std::uint64_t{concurrent}), 8, fold_width);
  return static_cast<std::uint32_t>(std::bit_floor(share));
}

TensorSummary collect(const TensorView& view, const Options& options, const Result& result,
                      std::span<const BinWord> words) {
  const ElementReader reader(view);
  Partial partial(view.dtype, options);
  partial.blocks = blocks_of(reader.count());
  partial.hash = result.hash;
  partial.order = reader.order();
  if (partial.bytes) {
    *partial.bytes = bytes_of(words);
  } else {
    if (options.histogram != HistogramMode::none) partial.histogram = histogram_of(words, options.resolution);
    if (reader.count() != 0) partial.fold.push(result.summary);
  }
  return std::move(partial).finish(view.shape);
}

}  // namespace tensometer::cuda
