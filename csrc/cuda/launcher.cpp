#include "cuda/launcher.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda/shared.hpp"
#include "dispatch.hpp"

namespace tensometer::cuda {
namespace {

bool is_of_a_kernel(Status status) {
  return status == constants::error_illegal_address || status == constants::error_launch_timeout ||
         status == constants::error_assert ||
         (status >= constants::error_hardware_stack && status <= constants::error_launch_failed);
}

std::string advice(const CudaError& error, bool started) {
  std::string text = error.what();
  if (is_of_a_kernel(error.status())) {
    text += ". An error of this kind most often comes from a kernel of the program's own, launched before, and is only "
            "found here: run it with CUDA_LAUNCH_BLOCKING=1 or under compute-sanitizer";
  } else if (error.status() == constants::error_not_initialized) {
    text += ". A process forked from one that uses CUDA cannot use it: start it by spawn or forkserver";
  }
  return started ? text + ". There are no more statistics of this device" : text;
}

// Results lie behind the two counts of bins, on the device and in a slot.
constexpr std::size_t results_at = 16;

template <class T>
T* at(const Memory::Pinned& buffer, std::size_t offset) {
  return reinterpret_cast<T*>(buffer.pointer + offset);
}

}  // namespace

Launcher::Launcher(int device, Images images, LauncherOptions options)
    : device_(device), images_(std::move(images)), options_(options), slots_(options.slots) {
  if (options.slots == 0) throw std::invalid_argument("slots: is 0, at least 1 is needed");
}

Launcher::~Launcher() {
  try {
    close();
  } catch (const std::exception&) {
    // A forked child, or a device that failed: there is nothing to give back, and nobody to tell.
  }
}

void Launcher::check_usable() const {
  if (broken_) throw CudaError(*broken_);
  if (closed_) throw std::runtime_error("cuda: the launcher of device " + std::to_string(device_) + " is closed");
}

void Launcher::end(const CudaError& error) {
  broken_.emplace(advice(error, context_ != nullptr), error.status());
  under_way_.clear();
}

// Runs it in the context. Whatever the driver says against it is the end of this launcher, but that there is no memory for what
// is not begun yet.
template <class Body>
auto Launcher::guarded(Body&& body) {
  try {
    start();
    Context::Entered entered(*context_);
    auto result = body();
    entered.leave();
    return result;
  } catch (const OutOfMemory&) {
    throw;  // other code of the process may give some back
  } catch (const CudaError& error) {
    end(error);
    throw CudaError(*broken_);
  }
}

void Launcher::start() {
  if (context_) return;
  std::shared_ptr<const Driver> driver = open_driver();
  memory_ = std::make_unique<Memory>(driver);
  context_ = std::make_unique<Context>(std::move(driver), device_);
}

Facts Launcher::begin() {
  check_process();
  const std::lock_guard lock(mutex_);
  check_usable();
  return guarded([&] {
    if (!context_->loaded()) context_->load(images_);
    return context_->facts();
  });
}

// What every launch needs: a stream that is not being captured, and the kernels.
void Launcher::check_stream(StreamHandle stream) {
  if (context_->is_capturing(stream)) {
    throw std::runtime_error("cuda: the stream is being captured into a graph; take statistics outside of the capture");
  }
  if (!context_->loaded()) context_->load(images_);
}

std::optional<Ticket> Launcher::awaited() const {
  const std::lock_guard lock(mutex_);
  return under_way_.size() == slots_.size() ? std::optional(under_way_.front()->ticket) : std::nullopt;
}

std::optional<Ticket> Launcher::submit(std::span<const TensorView> tensors, const Options& options, StreamHandle stream,
                                       Room room) {
  return submit_any(tensors, options, stream, room);
}

std::optional<Ticket> Launcher::submit_pairs(std::span<const PairView> pairs, const Options& options,
                                             StreamHandle stream, Room room) {
  return submit_any(pairs, options, stream, room);
}

std::optional<Ticket> Launcher::submit_pieces(std::span<const PieceView> pieces, const Options& options,
                                              StreamHandle stream) {
  return submit_any(pieces, options, stream, Room::most);
}

template <class View>
std::optional<Ticket> Launcher::submit_any(std::span<const View> views, const Options& options, StreamHandle stream,
                                           Room room) {
  check_process();
  const std::lock_guard lock(mutex_);
  check_usable();
  return guarded([&]() -> std::optional<Ticket> {
    check_stream(stream);
    if (under_way_.size() == slots_.size()) {
      drops_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    Uploaded& tables = tables_of(views, options);
    std::shared_ptr<const Prepared> prepared =
        std::move(tables.prepared);  // there again when nothing can fail any more
    const bool is_new = prepared == nullptr;
    if (is_new) {
      prepared = prepare(views, options, context_->facts().concurrent(), options_.words_per_tensor,
                         [&](const void* data) { return context_->elsewhere(data); });
    }
    Slot& slot = free_slot(*prepared);
    const Driver& driver = context_->driver();
    if (slot.event == nullptr) driver.allocate(driver.event_create, &slot.event, constants::event_without_timing);
    // Memory of the device is shared by all submits: on another stream too, one begins when the last has ended.
    if (last_ != nullptr) driver.call(driver.stream_wait, stream, last_, 0u);
    make_room(*prepared, tables, slot, stream, room);
    // From here on nothing fails but the driver, which is the end.
    if (is_new) upload(*prepared, tables, slot, stream);
    launch(*prepared, tables, slot, stream);
    bring(*prepared, slot, stream);
    driver.call(driver.event_record, slot.event, stream);
    last_ = slot.event;
    slot.ticket = tables.used = next_++;
    slot.prepared = tables.prepared = std::move(prepared);
    under_way_.push_back(&slot);
    return slot.ticket;
  });
}

// Those of the same tensors, or else, empty, those that were not used for longest.
template <class View>
Launcher::Uploaded& Launcher::tables_of(std::span<const View> views, const Options& options) {
  // Pieces are hardly ever the same: theirs is the last, so that others keep their tables.
  constexpr bool pieces = std::is_same_v<View, PieceView>;
  const auto last = std::prev(uploaded_.end()), first = pieces ? last : uploaded_.begin(),
             end = pieces ? uploaded_.end() : last;
  for (auto one = first; one != end; ++one) {
    if (one->prepared && is_of(*one->prepared, views, options)) return *one;
  }
  Uploaded& oldest = *std::min_element(first, end, [](const Uploaded& a, const Uploaded& b) {
    return std::pair(a.prepared != nullptr, a.used) < std::pair(b.prepared != nullptr, b.used);
  });
  oldest.prepared = nullptr;
  return oldest;
}

// The smallest that is large enough, or else the largest: small submits leave large slots to large ones.
Launcher::Slot& Launcher::free_slot(const Prepared& prepared) {
  const std::size_t wanted = results_at + prepared.result_bytes + prepared.copied_bytes;
  Slot* best = nullptr;
  for (Slot& slot : slots_) {
    if (slot.prepared) continue;
    const std::size_t size = slot.results.bytes, other = best != nullptr ? best->results.bytes : 0;
    if (best == nullptr || (other < wanted ? size > other : size >= wanted && size < other)) best = &slot;
  }
  return *best;
}

void Launcher::make_room(const Prepared& prepared, Uploaded& tables, Slot& slot, StreamHandle stream, Room room) {
  const std::uint64_t usual = std::max(prepared.first_room, words_seen_);
  slot.room = room == Room::most ? prepared.most_room : std::min(usual, prepared.most_room);
  memory_->grow(slot.tables, prepared.tables.size());
  memory_->grow(slot.results, results_at + prepared.result_bytes + prepared.copied_bytes);
  memory_->grow(slot.words, slot.room * sizeof(BinWord));
  memory_->grow(tables.tables, prepared.tables.size());
  memory_->grow(records_, prepared.record_bytes);
  memory_->grow(results_, results_at + prepared.result_bytes);
  // Every launch leaves zeros there, wherever one tensor's end and the next one's begin.
  if (memory_->grow(zeroed_, (prepared.rows + prepared.counters) * sizeof(std::uint64_t))) {
    const Driver& driver = context_->driver();
    driver.call(driver.set_bytes, zeroed_.pointer, static_cast<unsigned char>(0), zeroed_.bytes, stream);
  }
}

void Launcher::upload(const Prepared& prepared, const Uploaded& tables, const Slot& slot, StreamHandle stream) {
  if (prepared.tables.empty()) return;
  std::memcpy(slot.tables.pointer, prepared.tables.data(), prepared.tables.size());
  const Driver& driver = context_->driver();
  driver.call(driver.copy_to_device, tables.tables.pointer, static_cast<const void*>(slot.tables.pointer),
              prepared.tables.size(), stream);
}

void Launcher::launch(const Prepared& prepared, const Uploaded& tables, const Slot& slot, StreamHandle stream) {
  if (prepared.rows == 0) return;
  const Driver& driver = context_->driver();
  driver.call(driver.set_bytes, results_.pointer, static_cast<unsigned char>(0), results_at, stream);
  if (prepared.views_of<PairView>() != nullptr) {
    launch_kernels<PairFound>(prepared, tables, slot, stream);
  } else {
    launch_kernels<Result>(prepared, tables, slot, stream);
  }
  driver.call(driver.copy_to_host, static_cast<void*>(slot.results.pointer), results_.pointer,
              results_at + prepared.result_bytes, stream);
}

// What is brought as it is.
void Launcher::bring(const Prepared& prepared, const Slot& slot, StreamHandle stream) {
  const Driver& driver = context_->driver();
  std::byte* to = slot.results.pointer + results_at + prepared.result_bytes;
  for (const std::span<const std::byte> from : prepared.copied) {
    if (from.empty()) continue;
    const auto pointer = static_cast<DevicePointer>(reinterpret_cast<std::uintptr_t>(from.data()));
    driver.call(driver.copy_to_host, static_cast<void*>(to), pointer, from.size(), stream);
    to += from.size();
  }
}

// Of pairs there are no hashes.
template <class Result>
void Launcher::launch_kernels(const Prepared& prepared, const Uploaded& tables, const Slot& slot, StreamHandle stream) {
  constexpr bool compares = std::is_same_v<Result, PairFound>;
  DevicePointer rows = tables.tables.pointer, items = rows + prepared.item_table;
  DevicePointer records = records_.pointer, hashes = zeroed_.pointer;
  DevicePointer counters = hashes + prepared.rows * sizeof(std::uint64_t);
  OutputOf<Result> output{};
  output.results = reinterpret_cast<Result*>(static_cast<std::uintptr_t>(results_.pointer + results_at));
  output.words = at<BinWord>(slot.words, 0);
  output.used = reinterpret_cast<std::uint64_t*>(static_cast<std::uintptr_t>(results_.pointer));
  output.room = slot.room, output.bytes_room = prepared.bytes_room;
  void* of_first[] = {&rows, &items, &records, &counters, &hashes};
  void* of_finish[] = {&rows, &records, &counters, &hashes, &output};
  if constexpr (compares) of_finish[3] = &output;
  // A grid of no blocks is an error, and tensors without elements have no items.
  if (prepared.items != 0) {
    context_->launch(compares ? context_->compare() : context_->reduce(), prepared.items, reduce_threads,
                     prepared.shared_bytes, stream, of_first);
  }
  context_->launch(compares ? context_->finish_pairs() : context_->finish(), prepared.rows, finish_threads,
                   sizeof(FinishShared), stream, of_finish);
}

std::vector<std::int64_t> Launcher::histogram(const TensorView& x, std::span<const double> edges, StreamHandle stream) {
  check_process();
  if (row(x.dtype).lanes == Lanes::magnitude) {
    throw std::invalid_argument("x: has dtype " + std::string(row(x.dtype).name) + ", which has no order");
  }
  const std::lock_guard one_at_a_time(binning_mutex_);
  const bool any = x.count() != 0;
  {
    const std::lock_guard lock(mutex_);
    check_usable();
    guarded([&] {
      check_stream(stream);
      if (!any) return true;
      if (const std::string why = context_->elsewhere(x.data); !why.empty()) throw std::invalid_argument("x: " + why);
      binning_.begin(*context_, *memory_, x, edges, stream);
      return true;
    });
  }
  if (!any) return std::vector<std::int64_t>(edges.size() - 1);
  const Status status = await_event(binning_.event);
  const std::lock_guard lock(mutex_);
  check_usable();
  return guarded([&] {
    const Driver& driver = context_->driver();
    if (status != 0) driver.fail(driver.event_wait.name, status);
    return binning_.counts(edges.size() - 1);
  });
}

bool Launcher::is_done(const Slot& slot, bool waits) const {
  const Driver& driver = context_->driver();
  if (waits) {
    driver.call(driver.event_wait, slot.event);
    return true;
  }
  const Status status = driver.event_query.pointer(slot.event);
  if (status == constants::error_not_ready) return false;
  if (status != 0) driver.fail(driver.event_query.name, status);
  return true;
}

bool Launcher::await(Ticket ticket) {
  check_process();
  EventHandle event = nullptr;
  {
    const std::lock_guard lock(mutex_);
    check_usable();
    for (const Slot* slot : under_way_) {
      if (slot->ticket == ticket) event = slot->event;
    }
  }
  // Of a failure poll() hears too.
  if (event != nullptr) static_cast<void>(await_event(event));
  return event != nullptr;
}

// Without a lock; what the driver says.
Status Launcher::await_event(EventHandle event) const {
  try {
    Context::Entered entered(*context_);
    const Status status = context_->driver().event_wait.pointer(event);
    entered.leave();
    return status;
  } catch (const CudaError& error) {
    return error.status();
  }
}

std::vector<Finished> Launcher::finished(bool waits) {
  check_process();
  const std::lock_guard lock(mutex_);
  check_usable();
  std::vector<Finished> done;
  if (under_way_.empty()) return done;
  done.reserve(under_way_.size());  // what is taken stays
  try {
    guarded([&] {
      for (; !under_way_.empty() && is_done(*under_way_.front(), waits); under_way_.pop_front()) {
        done.push_back(take(*under_way_.front()));
      }
      return true;
    });
  } catch (const std::exception&) {
    // What was done before is right; the next call tells.
    if (done.empty()) throw;
  }
  return done;
}

Finished Launcher::take(Slot& slot) {
  const FloatEnvironment environment;
  const Prepared& prepared = *slot.prepared;
  const Answer answer{slot.results.pointer + results_at, at<const BinWord>(slot.words, 0), slot.room};
  Finished finished{slot.ticket, found_tensors(prepared, answer), found_pairs(prepared, answer),
                    found_pieces(prepared, answer)};
  if (prepared.rows != 0) {
    const std::uint64_t used = prepared.bytes_room + *at<const std::uint64_t>(slot.results, 0);
    if (used > slot.room) words_seen_ = std::max(words_seen_, used + used / 4);
  }
  slot.prepared.reset();
  return finished;
}

void Launcher::close() {
  check_process();
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  if (broken_) throw CudaError(*broken_);
  if (context_) {
    guarded([&] {
      const Driver& driver = context_->driver();
      for (; !under_way_.empty(); under_way_.pop_front()) driver.call(driver.event_wait, under_way_.front()->event);
      for (Slot& slot : slots_) {
        if (slot.event != nullptr) driver.call(driver.event_destroy, std::exchange(slot.event, nullptr));
      }
      if (binning_.event != nullptr) driver.call(driver.event_destroy, std::exchange(binning_.event, nullptr));
      memory_->release();
      context_->unload();
      return true;
    });
    try {
      context_->release();
    } catch (const CudaError& error) {
      end(error);
      throw CudaError(*broken_);
    }
  }
  closed_ = true;
}

}  // namespace tensometer::cuda
