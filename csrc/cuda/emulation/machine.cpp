#include "cuda/emulation/machine.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "cuda/emulation/fiber.hpp"
#include "hash.hpp"

#if defined(TENSOMETER_UNDER_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace tensometer::emulation {
namespace {

constexpr unsigned warp_size = 32;

struct Thread {
  std::unique_ptr<Fiber> fiber;
  Here here;
  bool waiting = false;
  Meeting kind = Meeting::block;
  unsigned mask = 0, lane = 0;
  const void* site = nullptr;
  std::uint64_t value = 0, received = 0;
  unsigned char* places = nullptr;  // where TSan is told of meetings: two for the block, and two for each warp
  unsigned block_meetings = 0, warp_meetings = 0;
};

thread_local Thread* running = nullptr;

// SplitMix64, for an order is drawn between any two meetings.
class Random {
 public:
  using result_type = std::uint64_t;
  explicit Random(std::uint64_t seed) : state_(seed) {}
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return ~result_type{0}; }
  result_type operator()() { return mix(state_ += golden); }

 private:
  std::uint64_t state_;
};

const char* name_of(Meeting kind) {
  constexpr const char* names[] = {"__shfl_sync", "__shfl_down_sync", "__shfl_xor_sync",
                                   "__syncwarp",  "__ballot_sync",    "__syncthreads"};
  return names[static_cast<std::size_t>(kind)];
}

[[noreturn]] void fail(const Thread& thread, const std::string& what) {
  throw EmulationError("block " + std::to_string(thread.here.block.x) + ", thread " +
                       std::to_string(thread.here.thread.x) + ": " + what);
}

bool met(const Thread& a, const Thread& b) {
  return b.waiting && a.kind == b.kind && a.site == b.site && a.mask == b.mask;
}

#if defined(TENSOMETER_UNDER_TSAN)
// All that threads did happened before the end of the launch, and nothing else follows of it.
unsigned char end_of_launch;
void end_thread() { __tsan_release(&end_of_launch); }
#else
void end_thread() {}
#endif

// The threads of one block, and how they meet.
class Block {
 public:
  Block(const Launch& grid, unsigned index, const std::function<void()>& kernel)
      : shared_(new unsigned char[std::max<std::size_t>(grid.shared_bytes, 1)]), threads_(grid.threads),
        places_(2 + grid.threads / warp_size * 2 + 2) {
    std::fill_n(shared_.get(), grid.shared_bytes, static_cast<unsigned char>(0xa5));
    for (unsigned i = 0; i < grid.threads; ++i) {
      threads_[i].places = places_.data();
      threads_[i].here = {{i, 0, 0}, {index, 0, 0}, shared_.get()};
      threads_[i].fiber = std::make_unique<Fiber>([&kernel] {
        kernel();
        end_thread();
      });
    }
  }

  void run(const Launch& grid, Random& random) {
    std::vector<std::size_t> order(threads_.size());
    std::iota(order.begin(), order.end(), 0);
    if (grid.schedule == Schedule::reverse) std::reverse(order.begin(), order.end());
    for (std::size_t ended = 0; ended < threads_.size();) {
      if (grid.schedule == Schedule::random) std::shuffle(order.begin(), order.end(), random);
      for (const std::size_t i : order) {
        if (threads_[i].waiting || threads_[i].fiber->ended()) continue;
        running = &threads_[i];
        threads_[i].fiber->resume();
        ended += threads_[i].fiber->ended();
      }
      if (ended < threads_.size() && !release_warps() && !release_block()) stuck();
    }
    for (Thread& thread : threads_) thread.fiber.reset();
  }

 private:
  std::size_t warp_of(std::size_t i) const { return i / warp_size * warp_size; }

  bool release_warps() {
    bool any = false;
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      const Thread& one = threads_[i];
      if (!one.waiting || one.kind == Meeting::block || asks_another(i) || !all_met(i)) continue;
      exchange(i);
      any = true;
    }
    return any;
  }

  // Whether the first thread that it names is asked: one of each meeting is enough.
  bool asks_another(std::size_t i) const {
    const Thread& one = threads_[i];
    if ((one.mask >> i % warp_size & 1u) == 0) return false;
    const std::size_t first = warp_of(i) + static_cast<std::size_t>(std::countr_zero(one.mask));
    return first < i && met(one, threads_[first]);
  }

  bool all_met(std::size_t i) const {
    const Thread& one = threads_[i];
    const std::size_t first = warp_of(i);
    if ((one.mask >> i % warp_size & 1u) == 0) fail(one, std::string(name_of(one.kind)) + ": it does not name itself");
    for (unsigned k = 0; k < warp_size; ++k) {
      if ((one.mask >> k & 1u) == 0) continue;
      if (first + k >= threads_.size()) fail(one, std::string(name_of(one.kind)) + ": it names a lane that is none");
      const Thread& other = threads_[first + k];
      if (other.fiber->ended()) fail(one, std::string(name_of(one.kind)) + ": a lane that it names has ended");
      if (!met(one, other)) return false;
    }
    return true;
  }

  void exchange(std::size_t i) {
    const std::size_t first = warp_of(i);
    const unsigned mask = threads_[i].mask;
    std::uint64_t votes = 0;
    for (unsigned k = 0; k < warp_size; ++k) votes |= mask >> k & 1u ? threads_[first + k].value : 0;
    for (unsigned k = 0; k < warp_size; ++k) {
      if ((mask >> k & 1u) == 0) continue;
      Thread& thread = threads_[first + k];
      const unsigned from = thread.kind == Meeting::shuffle_down  ? k + thread.lane
                            : thread.kind == Meeting::shuffle_xor ? k ^ thread.lane
                                                                  : thread.lane;
      const bool voted = thread.kind == Meeting::ballot;
      // A lane beyond the warp keeps its own; of one that is not named nobody knows what comes.
      const bool own = from >= warp_size || thread.kind == Meeting::warp;
      if (!own && !voted && (mask >> from & 1u) == 0) {
        fail(thread, std::string(name_of(thread.kind)) + ": it reads a lane that is not named");
      }
      thread.received = voted ? votes : own ? thread.value : threads_[first + from].value;
    }
    for (unsigned k = 0; k < warp_size; ++k) {
      if (mask >> k & 1u) threads_[first + k].waiting = false;
    }
  }

  bool release_block() {
    const Thread& one = threads_.front();
    for (const Thread& other : threads_) {
      if (!met(one, other) || other.kind != Meeting::block) return false;
    }
    for (Thread& thread : threads_) thread.waiting = false;
    return true;
  }

  void stuck() const {
    for (const Thread& thread : threads_) {
      if (thread.waiting) {
        fail(thread, std::string(name_of(thread.kind)) + ": it waits for threads that have ended or wait elsewhere");
      }
    }
  }

  std::unique_ptr<unsigned char[]> shared_;
  std::vector<Thread> threads_;
  std::vector<unsigned char> places_;
};

}  // namespace

const Here& here() { return running->here; }

std::uint64_t meet(Meeting kind, unsigned mask, const void* site, std::uint64_t value, unsigned lane) {
  Thread& me = *running;
  me.kind = kind, me.mask = mask, me.site = site, me.value = value, me.lane = lane;
  me.waiting = true;
#if defined(TENSOMETER_UNDER_TSAN)
  // What came before a meeting happened before what comes behind it, for all who met. By turns at two places: who goes on
  // late must not learn what others did meanwhile, on their way to the next meeting.
  unsigned char* place = kind == Meeting::block
                             ? me.places + me.block_meetings++ % 2
                             : me.places + 2 + me.here.thread.x / warp_size * 2 + me.warp_meetings++ % 2;
  __tsan_release(place);
#endif
  me.fiber->wait();
#if defined(TENSOMETER_UNDER_TSAN)
  __tsan_acquire(place);
#endif
  return me.received;
}

void launch(const Launch& grid, const std::function<void()>& kernel) {
  Random random(grid.seed);
  std::vector<unsigned> order(grid.blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (grid.schedule == Schedule::reverse) std::reverse(order.begin(), order.end());
  if (grid.schedule == Schedule::random) std::shuffle(order.begin(), order.end(), random);
  // Blocks are kept to the end: what two of them do in the same place of memory would be no race, but look like one.
  std::vector<std::unique_ptr<Block>> blocks;
  for (const unsigned index : order) {
    blocks.push_back(std::make_unique<Block>(grid, index, kernel));
    blocks.back()->run(grid, random);
  }
#if defined(TENSOMETER_UNDER_TSAN)
  __tsan_acquire(&end_of_launch);
#endif
}

}  // namespace tensometer::emulation
