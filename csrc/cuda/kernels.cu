// The kernels: reduce (one thread block an item) and finish (one a tensor). Both know no more than the tables they are given.
#include "cuda/finish.hpp"
#include "cuda/item.hpp"

namespace tensometer::cuda {
extern "C" __global__ void __launch_bounds__(reduce_threads, 4)
    tensometer_reduce(const Tensor* tensors, const Item* items, Summary* records, unsigned long long* tables,
                      std::uint64_t* hashes) {
  TENSOMETER_SHARED(memory);
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  auto* counters = reinterpret_cast<std::uint32_t*>(memory + sizeof(Shared));
  if (threadIdx.x == 0) {
    shared.item = items[blockIdx.x];
    shared.tensor = tensors[shared.item.tensor];
  }
  __syncthreads();
  const bool bytes = lanes_of(static_cast<DType>(shared.tensor.dtype)) == Lanes::table;
  const auto size = static_cast<std::uint32_t>(bytes ? byte_counters : counters_of(shared.tensor.resolution));
  const bool counts = static_cast<HistogramMode>(shared.tensor.histogram) != HistogramMode::none;
  const bool in_shared = bytes || (counts && shared.tensor.resolution <= shared_resolution);
  if (in_shared) clear_counters(counters, size);
  __syncthreads();
  unsigned long long* table = tables + shared.tensor.first_counter;
  if (bytes) {
    reduce_bytes(shared, counters, hashes + shared.item.tensor);
  } else {
    reduce_item(shared, {in_shared ? counters : nullptr, table}, records, hashes + shared.item.tensor);
  }
  __syncthreads();
  if (in_shared) flush_counters(counters, size, table);
}

extern "C" __global__ void __launch_bounds__(finish_threads, 6)
    tensometer_finish(const Tensor* tensors, Summary* records, unsigned long long* tables, std::uint64_t* hashes,
                      Output output) {
  TENSOMETER_SHARED(memory);
  FinishShared& shared = *reinterpret_cast<FinishShared*>(memory);
  const Tensor& tensor = tensors[blockIdx.x];
  Result& result = output.results[blockIdx.x];
  const bool bytes = lanes_of(static_cast<DType>(tensor.dtype)) == Lanes::table;
  if (!bytes) merge_records(tensor, records + tensor.first_record);
  if (threadIdx.x == 0) {
    result.summary = bytes || tensor.count == 0 ? Summary{} : records[tensor.first_record];
    result.hash = hashes[blockIdx.x];
    hashes[blockIdx.x] = 0;
    result.first_bin = result.bins = 0;
  }
  if (bytes || static_cast<HistogramMode>(tensor.histogram) != HistogramMode::none) {
    const std::uint64_t size = bytes ? byte_counters : counters_of(tensor.resolution);
    take_bins(tables + tensor.first_counter, static_cast<std::uint32_t>(size), output, result, shared);
  }
}

}  // namespace tensometer::cuda
