// Counting a tensor in device memory into given bins.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/context.hpp"
#include "layout.hpp"

namespace tensometer::cuda {

// The memory for it, which grows, and what tells that it is done.
struct Binning {
  Memory::Pinned here;  // edges, then counts
  Memory::OnDevice there;
  EventHandle event = nullptr;

  // Launches what uniform_histogram() does, of a tensor that is not empty; the event tells when it is done.
  void begin(const Context& context, Memory& memory, const TensorView& x, std::span<const double> edges,
             StreamHandle stream);
  // Of so many bins, when it is.
  std::vector<std::int64_t> counts(std::size_t bins) const;
};

}  // namespace tensometer::cuda
