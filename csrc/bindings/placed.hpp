// Tensors on CUDA devices, cut into what one submit each takes.
#pragma once

#include <memory>
#include <vector>

#include "bindings.hpp"
#include "cuda/engine.hpp"

namespace tensometer {

// Of a device, made when it is first asked for; it lives as long as the process, whose driver may end before it.
cuda::Engine& engine_of(int device);

// Tensors of one place; `rows` says which of a call's.
struct Part {
  Place place;
  std::vector<std::size_t> rows;
  std::vector<TensorView> views;
};

// Those that lie on devices, in parts that a submit takes.
std::vector<Part> parts_of(std::span<const SparseView> tensors, std::span<const Place> places, const Options& options,
                           cuda::Room room);

// What a device found of a tensor, as a row; a histogram that found no room is left out.
TensorSummary row_of(cuda::Found&& found, const SparseView& tensor);

}  // namespace tensometer
