#include "cuda/launcher.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda/shared.hpp"
#include "dispatch.hpp"

namespace tensometer::cuda {
namespace {

// The process that first used the driver; its children cannot.
std::atomic<pid_t> first_user{0};

void check_process() {
  const pid_t user = first_user.load(std::memory_order_relaxed);
  if (user == 0 || user == getpid()) return;
  throw std::runtime_error("cuda: this process was forked from one that takes CUDA statistics (process " +
                           std::to_string(user) +
                           "), and CUDA does not survive a fork; start it by spawn or forkserver");
}

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

bool same(const TensorView& a, const TensorView& b) {
  return a.data == b.data && a.dtype == b.dtype && a.swapped == b.swapped && a.shape == b.shape &&
         a.strides == b.strides;
}

bool same(const Options& a, const Options& b) {
  return a.histogram == b.histogram && a.resolution == b.resolution && a.fingerprint == b.fingerprint;
}

// Most bins that a tensor can have.
std::uint64_t most_bins(const TensorView& view, const Options& options) {
  if (row(view.dtype).lanes == Lanes::table) return std::min(view.count(), byte_counters);
  if (options.histogram == HistogramMode::none) return 0;
  return std::min(view.count(), counters_of(options.resolution));
}

// Results lie behind the count of bins, on the device and in a slot.
constexpr std::size_t results_at = 16;

template <class T>
T* at(const Memory::Pinned& buffer, std::size_t offset) {
  return reinterpret_cast<T*>(buffer.pointer + offset);
}

template <class T>
std::size_t bytes_of(const std::vector<T>& rows) {
  return rows.size() * sizeof(T);
}

void launch_kernel(const Driver& driver, FunctionHandle function, std::size_t blocks, unsigned threads,
                   std::size_t shared_bytes, StreamHandle stream, void** parameters) {
  driver.call(driver.launch, function, static_cast<unsigned>(blocks), 1u, 1u, threads, 1u, 1u,
              static_cast<unsigned>(shared_bytes), stream, parameters, static_cast<void**>(nullptr));
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
  oldest_ = next_;
}

// Runs it in the context. Whatever the driver says against it is the end of this launcher.
template <class Body>
auto Launcher::guarded(Body&& body) {
  try {
    start();
    Context::Entered entered(*context_);
    auto result = body();
    entered.leave();
    return result;
  } catch (const CudaError& error) {
    end(error);
    throw CudaError(*broken_);
  }
}

void Launcher::start() {
  if (context_) return;
  std::shared_ptr<const Driver> driver = open_driver();
  pid_t nobody = 0;
  first_user.compare_exchange_strong(nobody, getpid());
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

std::optional<Ticket> Launcher::submit(std::span<const TensorView> views, const Options& options, StreamHandle stream) {
  check_process();
  const std::lock_guard lock(mutex_);
  check_usable();
  return guarded([&]() -> std::optional<Ticket> {
    if (context_->is_capturing(stream)) {
      throw std::runtime_error(
          "cuda: the stream is being captured into a graph; take statistics outside of the capture");
    }
    if (!context_->loaded()) context_->load(images_);
    if (next_ - oldest_ == slots_.size()) {
      drops_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    Slot& slot = slot_of(next_);
    const Driver& driver = context_->driver();
    if (slot.event == nullptr) driver.call(driver.event_create, &slot.event, constants::event_without_timing);
    slot.prepared = prepare(views, options);
    // The tables are shared by all submits: on another stream too, one begins when the last has ended.
    if (last_ != nullptr) driver.call(driver.stream_wait, stream, last_, 0u);
    const bool new_tables = slot.prepared != uploaded_;
    if (new_tables) uploaded_ = nullptr;  // not any more, should this fail half way
    make_room(*slot.prepared, slot, stream);
    // From here on nothing fails but the driver, which is the end.
    if (new_tables) upload(*slot.prepared, slot, stream);
    uploaded_ = slot.prepared;
    launch(*slot.prepared, slot, stream);
    driver.call(driver.event_record, slot.event, stream);
    last_ = slot.event;
    slot.ticket = next_++;
    return slot.ticket;
  });
}

std::shared_ptr<const Launcher::Prepared> Launcher::prepare(std::span<const TensorView> views,
                                                            const Options& options) const {
  if (uploaded_ && same(uploaded_->options, options) &&
      std::equal(views.begin(), views.end(), uploaded_->views.begin(), uploaded_->views.end(),
                 [](const TensorView& a, const TensorView& b) { return same(a, b); })) {
    return uploaded_;
  }
  auto prepared = std::make_shared<Prepared>();
  prepared->plan = plan(views, options, item_blocks_for(views, context_->facts().concurrent()));
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (views[i].count() != 0) context_->check_pointer(views[i].data, i);
    const std::uint64_t most = most_bins(views[i], options);
    // Of a one-byte type all bins have room: its summary is made of them.
    const bool table = row(views[i].dtype).lanes == Lanes::table;
    prepared->most_room += most;
    prepared->first_room += table ? most : std::min(most, options_.bins_per_tensor);
  }
  prepared->views.assign(views.begin(), views.end());
  prepared->options = options;
  return prepared;
}

void Launcher::make_room(const Prepared& prepared, Slot& slot, StreamHandle stream) {
  const Plan& tables = prepared.plan;
  const std::size_t count = tables.tensors.size(), table_bytes = bytes_of(tables.tensors) + bytes_of(tables.items);
  slot.room = std::min(std::max(prepared.first_room, bins_seen_), prepared.most_room);
  memory_->grow(slot.tables, table_bytes);
  memory_->grow(slot.results, results_at + count * sizeof(Result));
  memory_->grow(slot.bins, slot.room * sizeof(std::uint64_t));
  memory_->grow(tables_, table_bytes);
  memory_->grow(records_, tables.records * sizeof(Summary));
  memory_->grow(results_, results_at + count * sizeof(Result));
  // Every launch leaves zeros there, wherever one tensor's end and the next one's begin.
  if (memory_->grow(zeroed_, (count + tables.counters) * sizeof(std::uint64_t))) {
    const Driver& driver = context_->driver();
    driver.call(driver.set_bytes, zeroed_.pointer, static_cast<unsigned char>(0), zeroed_.bytes, stream);
  }
}

void Launcher::upload(const Prepared& prepared, const Slot& slot, StreamHandle stream) const {
  const Plan& tables = prepared.plan;
  const std::size_t tensors = bytes_of(tables.tensors), items = bytes_of(tables.items);
  if (tensors == 0) return;
  std::memcpy(slot.tables.pointer, tables.tensors.data(), tensors);
  if (items != 0) std::memcpy(slot.tables.pointer + tensors, tables.items.data(), items);
  const Driver& driver = context_->driver();
  driver.call(driver.copy_to_device, tables_.pointer, static_cast<const void*>(slot.tables.pointer), tensors + items,
              stream);
}

void Launcher::launch(const Prepared& prepared, const Slot& slot, StreamHandle stream) const {
  const std::size_t count = prepared.plan.tensors.size(), items = prepared.plan.items.size();
  if (count == 0) return;
  const Driver& driver = context_->driver();
  DevicePointer tensors = tables_.pointer, item_rows = tensors + bytes_of(prepared.plan.tensors);
  DevicePointer records = records_.pointer, hashes = zeroed_.pointer;
  DevicePointer counters = hashes + count * sizeof(std::uint64_t);
  Output output{};
  output.results = reinterpret_cast<Result*>(static_cast<std::uintptr_t>(results_.pointer + results_at));
  output.bins = at<std::uint64_t>(slot.bins, 0);
  output.used = reinterpret_cast<std::uint64_t*>(static_cast<std::uintptr_t>(results_.pointer));
  output.room = slot.room;
  driver.call(driver.set_bytes, results_.pointer, static_cast<unsigned char>(0), results_at, stream);
  // A grid of no blocks is an error, and tensors without elements have no items.
  void* of_reduce[] = {&tensors, &item_rows, &records, &counters, &hashes};
  if (items != 0) {
    launch_kernel(driver, context_->reduce(), items, reduce_threads, prepared.plan.shared_bytes, stream, of_reduce);
  }
  void* of_finish[] = {&tensors, &records, &counters, &hashes, &output};
  launch_kernel(driver, context_->finish(), count, finish_threads, sizeof(FinishShared), stream, of_finish);
  driver.call(driver.copy_to_host, static_cast<void*>(slot.results.pointer), results_.pointer,
              results_at + count * sizeof(Result), stream);
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

std::vector<Finished> Launcher::finished(bool waits) {
  check_process();
  const std::lock_guard lock(mutex_);
  check_usable();
  std::vector<Finished> done;
  if (oldest_ == next_) return done;
  try {
    guarded([&] {
      for (; oldest_ != next_ && is_done(slot_of(oldest_), waits); ++oldest_) done.push_back(take(slot_of(oldest_)));
      return true;
    });
  } catch (const CudaError&) {
    // What was done before is right; the next call tells.
    if (done.empty()) throw;
  }
  return done;
}

Finished Launcher::take(Slot& slot) {
  const FloatEnvironment environment;
  const Prepared& prepared = *slot.prepared;
  Finished finished{slot.ticket, {}};
  finished.tensors.reserve(prepared.views.size());
  for (std::size_t i = 0; i < prepared.views.size(); ++i) {
    const Result& result = at<const Result>(slot.results, results_at)[i];
    const TensorView& view = prepared.views[i];
    Options options = prepared.options;
    Found found;
    found.bins_lost = result.first_bin + result.bins > slot.room;
    std::span<const std::uint64_t> bins;
    if (found.bins_lost) {
      options.histogram = HistogramMode::none;
    } else if (result.bins != 0) {
      bins = {at<const std::uint64_t>(slot.bins, 0) + result.first_bin, result.bins};
    }
    if (!found.bins_lost || row(view.dtype).lanes != Lanes::table) found.summary = collect(view, options, result, bins);
    finished.tensors.push_back(std::move(found));
  }
  if (!prepared.views.empty()) {
    const std::uint64_t used = *at<const std::uint64_t>(slot.results, 0);
    if (used > slot.room) bins_seen_ = std::max(bins_seen_, used + used / 4);
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
      for (; oldest_ != next_; ++oldest_) driver.call(driver.event_wait, slot_of(oldest_).event);
      for (Slot& slot : slots_) {
        if (slot.event != nullptr) driver.call(driver.event_destroy, std::exchange(slot.event, nullptr));
      }
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
