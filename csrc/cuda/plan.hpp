// Tables for the kernels of tensors in device memory, and what came of them as summaries.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/abi.hpp"
#include "reduce.hpp"

namespace tensometer::cuda {

// A tensor that is not taken: the one with this number of those that were given for an argument.
class TensorError : public std::invalid_argument {
 public:
  TensorError(const std::string& name, std::size_t number, const std::string& what);
  const std::string argument;
  const std::size_t index;
  const std::string why;  // "is ..."
  struct Other {
    std::size_t index;
    std::string why;
  };
  std::vector<Other> more;  // behind this one, as far as that was looked for
};

// What a launch needs. `records` and `counters` are the sizes of those tables, counters all zero before the first launch.
struct Plan {
  std::vector<Tensor> tensors;
  std::vector<Item> items;
  std::uint64_t records = 0, counters = 0;
  std::uint32_t shared_bytes = 0;  // of the reducing kernel

  // Appends a row, whose place in the tables is settled here. joined: as in Tensor.
  void add(Tensor tensor, const Options& options, std::uint32_t item_blocks, bool joined = false);
};

// `item_blocks`: how many blocks a thread block takes at most, a power of two up to 64. With 64, whole groups become one
// record. Throws TensorError for a view whose layout takes more than four dimensions, or swapped bytes.
Plan plan(std::span<const TensorView> views, const Options& options, std::uint32_t item_blocks);

// How many blocks an item should have where a device runs so many thread blocks at a time: eight items for each of
// them if there is enough to do, so that the last ones end together.
std::uint32_t item_blocks_for(std::span<const TensorView> views, std::uint32_t concurrent);

// The summary of a view, of what the kernels found of it. `words`: its own.
TensorSummary collect(const TensorView& view, const Options& options, const Result& result,
                      std::span<const BinWord> words);

// What the plans of tensors, pairs and pieces are made of.

// How many counters a tensor of this type has.
std::uint64_t counters_of(DType dtype, const Options& options);

// A table's row, as the reader sees the view; which one of an argument's, errors tell.
Tensor entry(const TensorView& view, const ElementReader& reader, const Options& options, const std::string& argument,
             std::size_t index);

// Cuts a tensor into items, and gives each its records. How many it has.
std::uint64_t cut_into_items(const Tensor& tensor, std::uint32_t index, std::uint32_t item_blocks,
                             std::vector<Item>& items);

// Of bins by their numbers: those of a histogram, and those of a one-byte type.
LogHistogram histogram_of(std::span<const BinWord> words, unsigned resolution);
ByteCounts bytes_of(std::span<const BinWord> words);

}  // namespace tensometer::cuda
