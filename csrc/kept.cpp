#include "kept.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <memory_resource>
#include <mutex>
#include <new>

namespace tensometer {
namespace {

class Pages final : public std::pmr::memory_resource {
  // Pages are aligned to more than anything asks for.
  void* do_allocate(std::size_t bytes, std::size_t) override {
    void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    // Copies of weights are read from end to end at every step: on pages of 2 MB without a walk through tables every 4 KB.
    if (bytes >= (std::size_t{4} << 20)) madvise(pages, bytes, MADV_HUGEPAGE);
    return pages;
  }
  void do_deallocate(void* pages, std::size_t bytes, std::size_t) override { munmap(pages, bytes); }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

struct Memory {
  std::mutex mutex;
  Pages pages;
  // What is larger has pages of its own, for which the system is asked each time: histograms should not be.
  std::pmr::unsynchronized_pool_resource pool{{.max_blocks_per_chunk = 0, .largest_required_pool_block = 1 << 15},
                                              &pages};
};

Memory& kept() {
  // Never destroyed: results may outlive static objects. A fork waits for the lock, which its child must find open.
  static Memory* const made = [] {
    auto* const one = new Memory;
    pthread_atfork([] { kept().mutex.lock(); }, [] { kept().mutex.unlock(); }, [] { kept().mutex.unlock(); });
    return one;
  }();
  return *made;
}

}  // namespace

void* allocate_kept(std::size_t bytes, std::size_t alignment) {
  const std::lock_guard lock(kept().mutex);
  return kept().pool.allocate(bytes, alignment);
}

void free_kept(void* memory, std::size_t bytes, std::size_t alignment) noexcept {
  const std::lock_guard lock(kept().mutex);
  kept().pool.deallocate(memory, bytes, alignment);
}

}  // namespace tensometer
