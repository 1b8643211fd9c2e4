// Any tensor in memory as a sequence of elements: memory order if it is dense, logical C order otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dtype.hpp"

namespace tensometer {

// What the bindings hand over. Strides are in bytes, of any sign, or zero; nothing need be aligned.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::k_float32;
  bool swapped = false;  // the bytes of an element (of each part of a complex one) are in the other order
  std::vector<std::int64_t> shape, strides;

  std::uint64_t count() const;
};

// The sub-tensor at `index` along `dim`.
TensorView select(const TensorView& view, std::size_t dim, std::int64_t index);

// A view seen as elements 0 to count - 1. Dense (a contiguous tensor with its dimensions in any order, or cut from one so
// that nothing is left out) means memory order; every other view is read in logical C order.
class ElementReader {
 public:
  // `memory_order` false: logical C order even if the view is dense. `item_size`: an element is that many bytes from where
  // the view's begin (whole neighbours with it); by default one element of the view.
  explicit ElementReader(const TensorView& view, bool memory_order = true, std::size_t item_size = 0);
  // `count` elements that lie one after another at `data`, in this machine's byte order.
  ElementReader(const std::byte* data, std::size_t item_size, std::uint64_t count);

  std::uint64_t count() const { return count_; }
  bool dense() const { return dense_; }
  const std::byte* data() const { return data_; }
  struct Dim {
    std::int64_t extent, stride;
    std::uint32_t index;  // in the view
  };
  // Of a view that is not dense: outermost first, neighbours joined where they can be.
  const std::vector<Dim>& dims() const { return dims_; }
  // The dimensions from innermost to outermost in memory, if that is not C order and memory order is read; else empty.
  const std::vector<std::uint32_t>& order() const { return order_; }
  // `count` elements from `first` on, where they lie or gathered into `buffer` (count * item_size bytes).
  const void* read(std::uint64_t first, std::uint32_t count, std::byte* buffer) const;

 private:
  void gather(std::uint64_t first, std::uint32_t count, std::byte* buffer) const;

  const std::byte* data_;
  std::size_t item_size_;
  std::uint64_t count_ = 1;
  std::size_t swap_size_ = 0;  // bytes of the words to reverse; 0 if none
  bool dense_ = true;
  std::vector<std::uint32_t> order_;
  std::vector<Dim> dims_;
};

}  // namespace tensometer
