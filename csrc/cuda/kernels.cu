// The kernels: reduce (one thread block an item) and finish (one a tensor), the same two of pairs of tensors, and histograms of
// given bins. They know no more than the tables they are given.
#include "cuda/finish.hpp"
#include "cuda/item.hpp"
#include "cuda/pair_item.hpp"
#include "cuda/take_bins.hpp"
#include "cuda/uniform.hpp"

namespace tensometer::cuda {
extern "C" __global__ void __launch_bounds__(reduce_threads, 4)
    tensometer_reduce(const Tensor* tensors, const Item* items, Summary* records, unsigned long long* tables,
                      std::uint64_t* hashes) {
  TENSOMETER_SHARED(memory);
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    shared.item = items[blockIdx.x];
    shared.tensor = tensors[shared.item.tensor];
    shared.data = static_cast<const unsigned char*>(shared.tensor.data) +
                  shared.item.first_block * block_size * item_size_of(static_cast<DType>(shared.tensor.dtype));
  }
  __syncthreads();
  if (counts_in_shared(shared.tensor)) clear_counters(counters_behind(shared), counter_count(shared.tensor));
  __syncthreads();
  reduce_item(shared, records, tables, hashes);  // all is counted where it writes its records
  if (counts_in_shared(shared.tensor)) {
    flush_counters(counters_behind(shared), counter_count(shared.tensor), tables + shared.tensor.first_counter);
  }
}

extern "C" __global__ void __launch_bounds__(finish_threads, 8)
    tensometer_finish(const Tensor* tensors, Summary* records, unsigned long long* tables, std::uint64_t* hashes,
                      Output output) {
  TENSOMETER_SHARED(memory);
  FinishShared& shared = *reinterpret_cast<FinishShared*>(memory);
  const Tensor& tensor = tensors[blockIdx.x];
  Result& result = output.results[blockIdx.x];
  const bool bytes = is_bytes(tensor);
  if (!bytes) merge_records(tensor, records + tensor.first_record);
  if (threadIdx.x == 0) {
    result.summary = bytes || tensor.count == 0 ? Summary{} : records[tensor.first_record];
    result.hash = hashes[blockIdx.x];
    hashes[blockIdx.x] = 0;
    result.first_word = result.words = 0;
  }
  if (is_counted(tensor) && tensor.joined == 0) {
    take_bins(tables + tensor.first_counter, counter_count(tensor), bytes, output, result, shared);
  }
}

extern "C" __global__ void __launch_bounds__(reduce_threads, 4)
    tensometer_compare(const TensorPair* pairs, const Item* items, PairPart* records, unsigned long long* tables) {
  TENSOMETER_SHARED(memory);
  PairShared& shared = *reinterpret_cast<PairShared*>(memory);
  if (threadIdx.x == 0) {
    shared.item = items[blockIdx.x];
    shared.pair = pairs[shared.item.tensor];
  }
  __syncthreads();
  const Tensor& tensor = shared.pair.tensors[0];
  if (counts_in_shared(shared)) clear_counters(counters_behind(shared), counters_of(tensor.resolution));
  __syncthreads();
  compare_item(shared, tables, records);  // all is counted where it writes its records
  if (!counts_in_shared(shared)) return;
  flush_counters(counters_behind(shared), counters_of(tensor.resolution), tables + tensor.first_counter);
}

extern "C" __global__ void __launch_bounds__(finish_threads, 8)
    tensometer_finish_pairs(const TensorPair* pairs, PairPart* records, unsigned long long* tables,
                            OutputOf<PairFound> output) {
  TENSOMETER_SHARED(memory);
  FinishShared& shared = *reinterpret_cast<FinishShared*>(memory);
  const Tensor& tensor = pairs[blockIdx.x].tensors[0];
  PairFound& found = output.results[blockIdx.x];
  merge_records(tensor, records + tensor.first_record);
  if (threadIdx.x == 0) {
    found.whole = tensor.count == 0 ? PairPart{} : records[tensor.first_record];
    found.first_word = found.words = 0;
  }
  if (static_cast<HistogramMode>(tensor.histogram) != HistogramMode::none) {
    take_bins(tables + tensor.first_counter, static_cast<std::uint32_t>(counters_of(tensor.resolution)), false, output,
              found, shared);
  }
}

extern "C" __global__ void __launch_bounds__(reduce_threads, 4) tensometer_histogram(Uniform given) {
  TENSOMETER_SHARED(memory);
  Uniform& table = *reinterpret_cast<Uniform*>(memory);
  auto* counters = reinterpret_cast<std::uint32_t*>(memory + sizeof(Uniform));
  if (threadIdx.x == 0) table = given;
  const bool in_shared = given.bins <= shared_bins;
  if (in_shared) clear_counters(counters, given.bins);
  __syncthreads();
  count_uniform(table, in_shared ? counters : nullptr);
  __syncthreads();
  if (in_shared) flush_counters(counters, given.bins, given.counts);
}

}  // namespace tensometer::cuda
