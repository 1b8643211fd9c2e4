// A device's launcher as its callers share it: each waits for its own submits, and gets what came of them.
#pragma once

#include <mutex>
#include <set>
#include <vector>

#include "cuda/launcher.hpp"

namespace tensometer::cuda {

// Any thread may call, and no call holds up another while it waits for the device. Every call throws what Launcher throws.
class Engine {
 public:
  Engine(int device, Images images);

  // As of Launcher.
  std::optional<Ticket> try_submit(std::span<const TensorView> tensors, const Options& options, StreamHandle stream);
  std::optional<Ticket> try_submit(std::span<const PairView> pairs, const Options& options, StreamHandle stream);
  // The same, with room for every bin; wait for the oldest submit if all slots are taken.
  Ticket submit(std::span<const TensorView> tensors, const Options& options, StreamHandle stream);
  Ticket submit(std::span<const PairView> pairs, const Options& options, StreamHandle stream);
  Ticket submit(std::span<const PieceView> pieces, const Options& options, StreamHandle stream);
  // As of Launcher.
  std::vector<std::int64_t> histogram(const TensorView& x, std::span<const double> edges, StreamHandle stream);
  bool ready(Ticket ticket);
  // Waits for what came of a submit, which is forgotten then; std::logic_error if it was before.
  Finished take(Ticket ticket);
  // Nobody will ask for it.
  void forget(Ticket ticket);

 private:
  template <class Submit>
  Ticket submit_when_free(Submit&& submit);
  void free_slots();
  bool find(Ticket ticket, Finished& finished);
  void collect();
  std::vector<Finished>::iterator among_done(Ticket ticket);

  Launcher launcher_;
  std::mutex mutex_;            // of what follows, and of results on their way there
  std::vector<Finished> done_;  // by their tickets, ascending
  std::set<Ticket> unwanted_;
};

// How many bytes of counters a submit of some of these should have at most: they need memory of the device, and so do bins,
// where there is room for most, of the host. In usual room all of them take eight submits at most.
std::uint64_t most_bytes_of(std::span<const TensorView> views, const Options& options, Room room);
// How many tensors from the first on are one submit then.
std::size_t part_of(std::span<const TensorView> views, const Options& options, std::uint64_t most_bytes);
// The same of so many pairs, in usual room.
std::size_t most_pairs(const Options& options, std::size_t count);

}  // namespace tensometer::cuda
