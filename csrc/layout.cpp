#include "layout.hpp"

#include <algorithm>
#include <cstring>

namespace tensometer {
namespace {

bool is_complex(DType dtype) { return row(dtype).lanes == Lanes::magnitude; }

template <std::size_t size>
void copy_strided(std::byte* to, const std::byte* from, std::int64_t stride, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i, to += size, from += stride) std::memcpy(to, from, size);
}

void copy_run(std::byte* to, const std::byte* from, std::int64_t stride, std::uint32_t count, std::size_t item_size) {
  if (stride == static_cast<std::int64_t>(item_size)) {
    std::memcpy(to, from, count * item_size);
    return;
  }
  switch (item_size) {
  case 1:
    return copy_strided<1>(to, from, stride, count);
  case 2:
    return copy_strided<2>(to, from, stride, count);
  case 4:
    return copy_strided<4>(to, from, stride, count);
  case 8:
    return copy_strided<8>(to, from, stride, count);
  case 16:
    return copy_strided<16>(to, from, stride, count);
  default:
    for (std::uint32_t i = 0; i < count; ++i, to += item_size, from += stride) std::memcpy(to, from, item_size);
  }
}

}  // namespace

std::uint64_t TensorView::count() const {
  std::uint64_t n = 1;
  for (const std::int64_t extent : shape) n *= static_cast<std::uint64_t>(extent);
  return n;
}

TensorView select(const TensorView& view, std::size_t dim, std::int64_t index) {
  TensorView part = view;
  part.data += index * view.strides[dim];
  part.shape.erase(part.shape.begin() + static_cast<std::ptrdiff_t>(dim));
  part.strides.erase(part.strides.begin() + static_cast<std::ptrdiff_t>(dim));
  return part;
}

ElementReader::ElementReader(const TensorView& view, bool memory_order, std::size_t item_size)
    : data_(view.data), item_size_(item_size != 0 ? item_size : row(view.dtype).item_size), count_(view.count()) {
  if (view.swapped) swap_size_ = row(view.dtype).item_size / (is_complex(view.dtype) ? 2u : 1u);
  std::vector<Dim> dims;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] != 1) dims.push_back({view.shape[i], view.strides[i], static_cast<std::uint32_t>(i)});
  }
  std::vector<Dim> by_stride = dims;
  if (memory_order) {
    std::stable_sort(by_stride.begin(), by_stride.end(),
                     [](const Dim& a, const Dim& b) { return a.stride < b.stride; });
  } else {
    std::reverse(by_stride.begin(), by_stride.end());
  }
  std::int64_t expected = static_cast<std::int64_t>(item_size_);
  for (const Dim& dim : by_stride) {
    dense_ = dense_ && dim.stride == expected;
    expected *= dim.extent;
  }
  if (dense_ || count_ == 0) {
    dense_ = true;
    const auto inner_first = [](const Dim& a, const Dim& b) { return a.index > b.index; };
    if (count_ == 0 || std::is_sorted(by_stride.begin(), by_stride.end(), inner_first)) return;
    for (const Dim& dim : by_stride) order_.push_back(dim.index);
    return;
  }
  for (const Dim& dim : dims) {
    if (!dims_.empty() && dims_.back().stride == dim.stride * dim.extent) {
      dims_.back() = {dims_.back().extent * dim.extent, dim.stride, dim.index};
    } else {
      dims_.push_back(dim);
    }
  }
}

ElementReader::ElementReader(const std::byte* data, std::size_t item_size, std::uint64_t count)
    : data_(data), item_size_(item_size), count_(count) {}

const void* ElementReader::read(std::uint64_t first, std::uint32_t count, std::byte* buffer) const {
  if (dense_ && swap_size_ == 0) return data_ + first * item_size_;
  if (dense_) {
    std::memcpy(buffer, data_ + first * item_size_, count * item_size_);
  } else {
    gather(first, count, buffer);
  }
  if (swap_size_ > 1) {
    for (std::byte* word = buffer; word != buffer + count * item_size_; word += swap_size_) {
      std::reverse(word, word + swap_size_);
    }
  }
  return buffer;
}

void ElementReader::gather(std::uint64_t first, std::uint32_t count, std::byte* buffer) const {
  const std::size_t rank = dims_.size(), inner = rank - 1;
  std::vector<std::int64_t> index(rank);
  const std::byte* at = data_;
  for (std::size_t i = rank; i-- > 0;) {
    index[i] = static_cast<std::int64_t>(first % static_cast<std::uint64_t>(dims_[i].extent));
    first /= static_cast<std::uint64_t>(dims_[i].extent);
    at += index[i] * dims_[i].stride;
  }
  while (true) {
    const Dim& run = dims_[inner];
    const auto length = static_cast<std::uint32_t>(std::min<std::int64_t>(run.extent - index[inner], count));
    copy_run(buffer, at, run.stride, length, item_size_);
    count -= length;
    if (count == 0) return;
    buffer += length * item_size_;
    at -= index[inner] * run.stride;
    index[inner] = 0;
    std::size_t i = inner;
    while (i-- > 0) {  // carry: the run ended before the block did, so some outer index can still advance
      at += dims_[i].stride;
      if (++index[i] < dims_[i].extent) break;
      at -= index[i] * dims_[i].stride;
      index[i] = 0;
    }
  }
}

}  // namespace tensometer
