// Statistics of tensors in device memory, without waiting for the device: submit() launches, poll() brings what is done.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "cuda/context.hpp"
#include "cuda/plan.hpp"
#include "reduce.hpp"

namespace tensometer::cuda {

using Ticket = std::uint64_t;  // 0 for a launcher's first

// What came of one tensor. Bins that found no room are lost: a tensor of a one-byte type, whose every statistic comes of
// bins, then has no summary, another one's has no histogram. There is room for them from the next submit on.
struct Found {
  std::optional<TensorSummary> summary;
  bool bins_lost = false;
};

struct Finished {
  Ticket ticket = 0;
  std::vector<Found> tensors;
};

struct LauncherOptions {
  unsigned slots = 4;                    // submits that may be under way
  std::uint64_t bins_per_tensor = 1024;  // of a histogram, until more have been seen
};

// One device. Any thread may call; the driver is not touched before the first submit. A failed CUDA call is the end: it
// throws CudaError, and so does every later call, with the same words and without touching the driver.
class Launcher {
 public:
  Launcher(int device, Images images, LauncherOptions options = {});
  // As close(), without exceptions; nothing in a forked child.
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Begins now what the first submit would: whether there are statistics of this device, else CudaError that says why not.
  Facts begin();
  // Launches two kernels on the stream, whatever the number of tensors, and never waits for the device. The tensors must stay
  // as they are until the stream has come that far. Nothing if all slots are taken: that submit is dropped and counted.
  // Throws std::invalid_argument for a tensor that is not taken, std::runtime_error while the stream is being captured.
  std::optional<Ticket> submit(std::span<const TensorView> views, const Options& options, StreamHandle stream);
  // What is done, in the order of the submits, up to the first that is not.
  std::vector<Finished> poll() { return finished(false); }
  // All that is under way: waits for it, and so do calls from other threads.
  std::vector<Finished> wait() { return finished(true); }
  // Waits for what is under way, forgets it, and gives everything back.
  void close();
  // Submits that found no free slot.
  std::uint64_t drops() const { return drops_.load(std::memory_order_relaxed); }

 private:
  // What was uploaded: good for as long as the same tensors come.
  struct Prepared {
    std::vector<TensorView> views;
    Options options;
    Plan plan;
    std::uint64_t first_room = 0, most_room = 0;  // bins
  };
  struct Slot {
    Memory::Pinned tables, results, bins;
    EventHandle event = nullptr;
    std::shared_ptr<const Prepared> prepared;
    std::uint64_t room = 0;  // bins
    Ticket ticket = 0;
  };

  Slot& slot_of(Ticket ticket) { return slots_[ticket % slots_.size()]; }
  template <class Body>
  auto guarded(Body&& body);
  void check_usable() const;
  void start();
  void end(const CudaError& error);
  std::vector<Finished> finished(bool waits);
  std::shared_ptr<const Prepared> prepare(std::span<const TensorView> views, const Options& options) const;
  void make_room(const Prepared& prepared, Slot& slot, StreamHandle stream);
  void upload(const Prepared& prepared, const Slot& slot, StreamHandle stream) const;
  void launch(const Prepared& prepared, const Slot& slot, StreamHandle stream) const;
  bool is_done(const Slot& slot, bool waits) const;
  Finished take(Slot& slot);

  const int device_;
  const Images images_;
  const LauncherOptions options_;
  mutable std::mutex mutex_;
  std::optional<CudaError> broken_;
  bool closed_ = false;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Context> context_;
  Memory::OnDevice tables_, records_, zeroed_, results_;  // zeroed: hashes, counters
  std::vector<Slot> slots_;
  std::shared_ptr<const Prepared> uploaded_;
  EventHandle last_ = nullptr;    // of the last submit: the next one uses the same tables
  Ticket oldest_ = 0, next_ = 0;  // under way: those from the oldest to before the next
  std::uint64_t bins_seen_ = 0;   // with some to spare; 0 until there was too little room
  std::atomic<std::uint64_t> drops_{0};
};

}  // namespace tensometer::cuda
