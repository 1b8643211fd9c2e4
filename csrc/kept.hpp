// Memory of results, which outlive the work that makes them.
#pragma once

#include <cstddef>
#include <vector>

namespace tensometer {

// From pages of their own. Whoever captures a training run keeps thousands of small results for seconds while the training
// allocates and frees large temporaries: on the same heap, the small ones would keep the gaps between the large from closing,
// and the process would grow by hundreds of MB. What is freed here is used again here. Throws std::bad_alloc.
void* allocate_kept(std::size_t bytes, std::size_t alignment);
void free_kept(void* memory, std::size_t bytes, std::size_t alignment) noexcept;

template <class T>
struct KeptAllocator {
  using value_type = T;
  KeptAllocator() = default;
  template <class U>
  KeptAllocator(const KeptAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor): what allocators must allow
  T* allocate(std::size_t count) { return static_cast<T*>(allocate_kept(count * sizeof(T), alignof(T))); }
  void deallocate(T* memory, std::size_t count) noexcept { free_kept(memory, count * sizeof(T), alignof(T)); }
  bool operator==(const KeptAllocator&) const = default;
};

// What `new` makes of a class that is derived from this.
template <class T>
struct Kept {
  static void* operator new(std::size_t bytes) { return allocate_kept(bytes, alignof(T)); }
  static void* operator new(std::size_t, void* place) noexcept { return place; }
  static void operator delete(void* memory, std::size_t bytes) noexcept { free_kept(memory, bytes, alignof(T)); }
};

template <class T>
using KeptVector = std::vector<T, KeptAllocator<T>>;

}  // namespace tensometer
