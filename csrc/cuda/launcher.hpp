// Statistics of tensors in device memory, without waiting for the device: submit() launches, poll() brings what is done.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "cuda/binning.hpp"
#include "cuda/context.hpp"
#include "cuda/prepared.hpp"

namespace tensometer::cuda {

using Ticket = std::uint64_t;  // 0 for a launcher's first

// What came of a submit: of tensors, of pairs or of pieces.
struct Finished {
  Ticket ticket = 0;
  std::vector<Found> tensors;
  std::vector<Compared> pairs;
  std::vector<ReducedPiece> pieces;
};

// For how many words of bins a submit has room: as many as were seen, or as many as there can be.
enum class Room { usual, most };

struct LauncherOptions {
  unsigned slots = 4;                     // submits that may be under way
  std::uint64_t words_per_tensor = 1024;  // of a histogram, until more have been seen
};

// One device. Any thread may call; the driver is not touched before the first submit. A failed CUDA call is the end: it
// throws CudaError, and so does every later call, with the same words and without touching the driver. Only where there is no
// memory for a submit, that one throws OutOfMemory, and nothing of it is under way.
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
  std::optional<Ticket> submit(std::span<const TensorView> tensors, const Options& options, StreamHandle stream,
                               Room room = Room::usual);
  // The same of pairs, whose last differences become those that are found. Neither may change until then, nor may a last one be
  // used elsewhere.
  std::optional<Ticket> submit_pairs(std::span<const PairView> pairs, const Options& options, StreamHandle stream,
                                     Room room = Room::usual);
  // The same of pieces, with room for every bin.
  std::optional<Ticket> submit_pieces(std::span<const PieceView> pieces, const Options& options, StreamHandle stream);
  // As uniform_histogram() of one tensor: waits for what the stream has to do before. Takes no slot.
  std::vector<std::int64_t> histogram(const TensorView& x, std::span<const double> edges, StreamHandle stream);
  // What is done, in the order of the submits, up to the first that is not.
  std::vector<Finished> poll() { return finished(false); }
  // All that is under way: waits for it, and so do calls from other threads.
  std::vector<Finished> wait() { return finished(true); }
  // Waits until poll() brings this submit, or says what went wrong; false at once if it is not under way. Other threads may
  // call meanwhile, but not close().
  bool await(Ticket ticket);
  // The submit that must be done before there is a free slot; nothing if there is one.
  std::optional<Ticket> awaited() const;
  // Waits for what is under way, forgets it, and gives everything back.
  void close();
  // Submits that found no free slot.
  std::uint64_t drops() const { return drops_.load(std::memory_order_relaxed); }

 private:
  // Tables on the device, good for as long as the same tensors come.
  struct Uploaded {
    Memory::OnDevice tables;
    std::shared_ptr<const Prepared> prepared;
    Ticket used = 0;
  };
  struct Slot {
    Memory::Pinned tables, results, words;
    EventHandle event = nullptr;
    std::shared_ptr<const Prepared> prepared;  // null: free
    std::uint64_t room = 0;                    // words
    Ticket ticket = 0;
  };

  template <class Body>
  auto guarded(Body&& body);
  void check_usable() const;
  void start();
  void end(const CudaError& error);
  std::vector<Finished> finished(bool waits);
  template <class View>
  Uploaded& tables_of(std::span<const View> views, const Options& options);
  Slot& free_slot(const Prepared& prepared);
  template <class View>
  std::optional<Ticket> submit_any(std::span<const View> views, const Options& options, StreamHandle stream, Room room);
  void make_room(const Prepared& prepared, Uploaded& tables, Slot& slot, StreamHandle stream, Room room);
  void upload(const Prepared& prepared, const Uploaded& tables, const Slot& slot, StreamHandle stream);
  void launch(const Prepared& prepared, const Uploaded& tables, const Slot& slot, StreamHandle stream);
  void bring(const Prepared& prepared, const Slot& slot, StreamHandle stream);
  template <class Result>
  void launch_kernels(const Prepared& prepared, const Uploaded& tables, const Slot& slot, StreamHandle stream);
  void check_stream(StreamHandle stream);
  Status await_event(EventHandle event) const;
  bool is_done(const Slot& slot, bool waits) const;
  Finished take(Slot& slot);

  const int device_;
  const Images images_;
  const LauncherOptions options_;
  mutable std::mutex mutex_;
  std::mutex binning_mutex_;  // taken before the other
  std::optional<CudaError> broken_;
  bool closed_ = false;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Context> context_;
  Memory::OnDevice records_, zeroed_, results_;  // zeroed: hashes, counters
  Binning binning_;
  std::vector<Slot> slots_;
  std::array<Uploaded, 9> uploaded_;  // a training step makes some submits, and the next one the same
  EventHandle last_ = nullptr;        // of the last submit: the next one uses the same memory of the device
  std::deque<Slot*> under_way_;       // from the oldest on
  Ticket next_ = 0;
  std::uint64_t words_seen_ = 0;  // with some to spare; 0 until there was too little room
  std::atomic<std::uint64_t> drops_{0};
};

}  // namespace tensometer::cuda
