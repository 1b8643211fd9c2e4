#include "cuda/binning.hpp"

#include <algorithm>
#include <cstring>

#include "cuda/plan.hpp"

namespace tensometer::cuda {

void Binning::begin(const Context& context, Memory& memory, const TensorView& x, std::span<const double> edges,
                    StreamHandle stream) {
  const Driver& driver = context.driver();
  const std::size_t bins = edges.size() - 1, edge_bytes = edges.size_bytes(), count_bytes = bins * sizeof(std::int64_t);
  Uniform table{};
  table.tensor = entry(x, ElementReader(x), {}, "x", 0);
  memory.grow(here, edge_bytes + count_bytes);
  memory.grow(there, edge_bytes + count_bytes);
  if (event == nullptr) driver.allocate(driver.event_create, &event, constants::event_without_timing);
  const DevicePointer counts = there.pointer + edge_bytes;
  std::byte* counted = here.pointer + edge_bytes;
  table.edges = reinterpret_cast<const double*>(static_cast<std::uintptr_t>(there.pointer));
  table.counts = reinterpret_cast<unsigned long long*>(static_cast<std::uintptr_t>(counts));
  table.per_unit = static_cast<double>(bins) / (edges.back() - edges.front());
  table.bins = static_cast<std::uint32_t>(bins);
  const std::uint64_t blocks = (table.tensor.count + block_size - 1) / block_size;
  table.stride = static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks, context.facts().concurrent()));
  std::memcpy(here.pointer, edges.data(), edge_bytes);
  driver.call(driver.copy_to_device, there.pointer, static_cast<const void*>(here.pointer), edge_bytes, stream);
  driver.call(driver.set_bytes, counts, static_cast<unsigned char>(0), count_bytes, stream);
  void* parameters[] = {&table};
  const std::size_t counters = bins <= shared_bins ? bins * sizeof(std::uint32_t) : 0;
  context.launch(context.histogram(), table.stride, reduce_threads, sizeof(Uniform) + counters, stream, parameters);
  driver.call(driver.copy_to_host, static_cast<void*>(counted), counts, count_bytes, stream);
  driver.call(driver.event_record, event, stream);
}

// They lie behind the edges.
std::vector<std::int64_t> Binning::counts(std::size_t bins) const {
  std::vector<std::int64_t> result(bins);
  std::memcpy(result.data(), here.pointer + (bins + 1) * sizeof(double), bins * sizeof(std::int64_t));
  return result;
}

}  // namespace tensometer::cuda
