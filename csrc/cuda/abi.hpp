// What the launcher and the kernels exchange: tables in device memory. Every row is plain words.
#pragma once

#include <cstdint>

#include "cuda/bin_words.hpp"
#include "summary.hpp"

namespace tensometer::cuda {

inline constexpr unsigned most_dims = 4;

// One tensor, or one unit of a tensor. Elements lie one after another if `dims` is 0; otherwise in logical order, the
// outermost dimension first, those joined that can be. Strides are in bytes.
struct Tensor {
  const void* data;
  std::uint64_t count;
  std::uint64_t extent[most_dims];
  std::int64_t stride[most_dims];
  std::uint64_t first_record;   // of its blocks or groups, in the table of records
  std::uint64_t first_counter;  // in the table of counters, which are all zero between launches
  std::uint64_t first_block;    // of a piece: the number in the whole of its first block
  std::uint8_t dtype;           // a DType
  std::uint8_t histogram;       // a HistogramMode
  std::uint8_t resolution;
  std::uint8_t fingerprint;
  std::uint16_t dims;
  std::uint8_t grouped;  // 1: every whole group of 64 blocks is one record
  std::uint8_t joined;   // 1: it counts into the counters of one before it, which gets the bins of both
};

// What one thread block reduces: some blocks of a tensor, all of one group of 64.
struct Item {
  std::uint64_t first_block;
  std::uint64_t record;  // where its results go: one, if these are a whole group of a grouped tensor, else one a block
  std::uint32_t tensor, blocks;
};

// What is known of a tensor in the end. The words of its bins lie one after another in the table of words. Bins are numbered by
// the top bits of the float32 pattern; of one-byte types, by the byte itself.
struct Result {
  Summary summary;
  std::uint64_t hash;  // the sum of its blocks'
  std::uint64_t first_word, words;
};

// What a finalising launch is given beside the tables.
template <class Result>
struct OutputOf {
  Result* results;
  BinWord* words;       // `bytes_room` of one-byte types, then histograms'
  std::uint64_t* used;  // histograms' so far, and those of one-byte types; more than there is room for: some are lost
  std::uint64_t room;   // of all
  std::uint64_t bytes_room;  // for all that one-byte types may have: their summaries are made of them
};
using Output = OutputOf<Result>;

// What a launch that counts a tensor into given bins is given.
struct Uniform {
  Tensor tensor;
  const double* edges;         // bins + 1, ascending
  unsigned long long* counts;  // of the bins, all zero before
  double per_unit;             // bins / (last edge - first edge)
  std::uint32_t bins, stride;  // stride: thread blocks of the launch
};
inline constexpr std::uint32_t shared_bins = 4096;  // at most so many are counted in shared memory

inline constexpr unsigned reduce_threads = 256, finish_threads = 128;
inline constexpr unsigned shared_resolution = 3;  // the finest histogram that is counted in shared memory

// Counters of a tensor: a byte type's, or those of a histogram.
constexpr std::uint64_t counters_of(unsigned resolution) { return std::uint64_t{1} << (9 + resolution); }
inline constexpr std::uint64_t byte_counters = 256;

}  // namespace tensometer::cuda
