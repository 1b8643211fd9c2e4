#include "cuda/engine.hpp"

#include <algorithm>
#include <utility>

namespace tensometer::cuda {
namespace {

constexpr unsigned slots = 32;  // a training step may make several submits, and several steps be under way
// For the counters of one submit, on the device, and its bins, pinned: 64 tensors at resolution 6, 512 at 3.
constexpr std::uint64_t most_counter_bytes = 16 << 20;
// Where bins have no room of their own, so that a training step stays one submit: 256 tensors at resolution 6, 2048 at 3.
constexpr std::uint64_t most_usual_bytes = 64 << 20;
constexpr std::size_t most_tensors = 1 << 14, most_parts = 8;

std::uint64_t counter_bytes(const TensorView& view, const Options& options) {
  return counters_of(view.dtype, options) * sizeof(std::uint64_t);
}

}  // namespace

Engine::Engine(int device, Images images) : launcher_(device, std::move(images), {.slots = slots}) {}

void Engine::free_slots() {
  check_process();
  const std::lock_guard lock(mutex_);
  collect();
}

std::optional<Ticket> Engine::try_submit(std::span<const TensorView> tensors, const Options& options,
                                         StreamHandle stream) {
  free_slots();
  return launcher_.submit(tensors, options, stream);
}

std::optional<Ticket> Engine::try_submit(std::span<const PairView> pairs, const Options& options, StreamHandle stream) {
  free_slots();
  return launcher_.submit_pairs(pairs, options, stream);
}

template <class Submit>
Ticket Engine::submit_when_free(Submit&& submit) {
  while (true) {
    free_slots();
    if (const std::optional<Ticket> awaited = launcher_.awaited()) {
      launcher_.await(*awaited);
    } else if (const std::optional<Ticket> ticket = submit()) {
      return *ticket;
    }
  }
}

Ticket Engine::submit(std::span<const TensorView> tensors, const Options& options, StreamHandle stream) {
  return submit_when_free([&] { return launcher_.submit(tensors, options, stream, Room::most); });
}

Ticket Engine::submit(std::span<const PairView> pairs, const Options& options, StreamHandle stream) {
  return submit_when_free([&] { return launcher_.submit_pairs(pairs, options, stream, Room::most); });
}

Ticket Engine::submit(std::span<const PieceView> pieces, const Options& options, StreamHandle stream) {
  return submit_when_free([&] { return launcher_.submit_pieces(pieces, options, stream); });
}

std::vector<std::int64_t> Engine::histogram(const TensorView& x, std::span<const double> edges, StreamHandle stream) {
  return launcher_.histogram(x, edges, stream);
}

bool Engine::ready(Ticket ticket) {
  check_process();
  const std::lock_guard lock(mutex_);
  if (among_done(ticket) == done_.end()) collect();
  return among_done(ticket) != done_.end();
}

Finished Engine::take(Ticket ticket) {
  check_process();
  Finished finished;
  for (bool known = true; !find(ticket, finished);) {
    if (!known) throw std::logic_error("cuda: submit " + std::to_string(ticket) + " was taken before, or forgotten");
    known = launcher_.await(ticket);
  }
  return finished;
}

bool Engine::find(Ticket ticket, Finished& finished) {
  const std::lock_guard lock(mutex_);
  if (among_done(ticket) == done_.end()) collect();
  const auto found = among_done(ticket);
  if (found == done_.end()) return false;
  finished = std::move(*found);
  done_.erase(found);
  return true;
}

void Engine::forget(Ticket ticket) {
  check_process();
  const std::lock_guard lock(mutex_);
  if (const auto found = among_done(ticket); found != done_.end()) {
    done_.erase(found);
  } else {
    unwanted_.insert(ticket);
  }
}

std::vector<Finished>::iterator Engine::among_done(Ticket ticket) {
  const auto found = std::lower_bound(done_.begin(), done_.end(), ticket,
                                      [](const Finished& finished, Ticket wanted) { return finished.ticket < wanted; });
  return found != done_.end() && found->ticket == ticket ? found : done_.end();
}

void Engine::collect() {
  // There is room before anything is taken: nothing that has come is lost where there is no memory.
  if (done_.capacity() < done_.size() + slots) done_.reserve(2 * done_.size() + slots);
  for (Finished& finished : launcher_.poll()) {
    if (unwanted_.erase(finished.ticket) == 0) done_.push_back(std::move(finished));
  }
}

std::uint64_t most_bytes_of(std::span<const TensorView> views, const Options& options, Room room) {
  if (room == Room::most) return most_counter_bytes;
  std::uint64_t bytes = 0;
  for (const TensorView& view : views) bytes += counter_bytes(view, options);
  // So much more than an eighth that no remainder is a ninth.
  const std::uint64_t largest = std::max(byte_counters, counters_of(options.resolution)) * sizeof(std::uint64_t);
  return std::max(most_usual_bytes, bytes / most_parts + largest);
}

std::size_t part_of(std::span<const TensorView> views, const Options& options, std::uint64_t most_bytes) {
  const std::size_t most = most_bytes == most_counter_bytes ? most_tensors : views.size();
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < views.size() && i < most; ++i) {
    bytes += counter_bytes(views[i], options);
    if (bytes > most_bytes && i != 0) return i;
  }
  return std::min(views.size(), most);
}

std::size_t most_pairs(const Options& options, std::size_t count) {
  if (options.histogram == HistogramMode::none) return count;
  const std::size_t usual = most_usual_bytes / (counters_of(options.resolution) * sizeof(std::uint64_t));
  return std::max(usual, count / most_parts + 1);
}

}  // namespace tensometer::cuda
