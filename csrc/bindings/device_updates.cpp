// What an optimizer changed on CUDA devices, as UpdateTracker says it of the host's memory.
#include <pybind11/stl.h>

#include <exception>
#include <mutex>

#include "placed.hpp"
#include "updates.hpp"

namespace tensometer {

// What is remembered from one comparison to the next; they may be taken later than they are submitted.
class DeviceUpdates {
 public:
  std::mutex mutex;
  std::vector<LastUpdate> last;
  std::uint64_t submitted = 0, taken = 0;
};

namespace {

struct Pairs {
  Place place;
  std::vector<std::size_t> rows;
  std::vector<cuda::PairView> views;
  cuda::Ticket ticket = 0;
};

std::vector<Input> dense_of(py::handle tensors, const char* argument) {
  if (!py::isinstance<py::sequence>(tensors) || py::isinstance<py::str>(tensors)) {
    throw py::type_error(std::string(argument) + ": " + shown(tensors) + " is no sequence of tensors");
  }
  std::vector<Input> inputs;
  for (const py::handle x : py::iter(tensors)) {
    const std::string name = std::string(argument) + "[" + std::to_string(inputs.size()) + "]";
    inputs.push_back(input_of(x, name.c_str()));
    const Input& input = inputs.back();
    if (input.tensor.shape != input.tensor.values.shape) throw py::type_error(name + ": is sparse");
    if (!input.place.on_device()) throw py::value_error(name + ": does not lie on a CUDA device");
  }
  return inputs;
}

// By device, in parts that a submit takes: the streams are those of the new tensors.
std::vector<Pairs> pairs_of(const std::vector<Input>& old_ones, const std::vector<Input>& new_ones,
                            const std::vector<Input>& last_ones, const Options& options) {
  if (old_ones.size() != new_ones.size() || last_ones.size() != new_ones.size()) {
    throw py::value_error("old: " + std::to_string(old_ones.size()) + " tensors, new: " +
                          std::to_string(new_ones.size()) + ", last: " + std::to_string(last_ones.size()));
  }
  const std::size_t most = cuda::most_pairs(options, new_ones.size());
  std::vector<Pairs> all;
  for (std::size_t i = 0; i < new_ones.size(); ++i) {
    const Place place = new_ones[i].place;
    auto at = std::find_if(all.begin(), all.end(),
                           [&](const Pairs& pairs) { return pairs.place == place && pairs.views.size() < most; });
    if (at == all.end()) at = all.insert(all.end(), Pairs{place, {}, {}, 0});
    at->rows.push_back(i);
    at->views.push_back({old_ones[i].tensor.values, new_ones[i].tensor.values, last_ones[i].tensor.values});
  }
  return all;
}

}  // namespace

class PendingUpdates {
 public:
  PendingUpdates(std::shared_ptr<DeviceUpdates> tracker, std::vector<Pairs>&& parts, std::size_t count)
      : tracker_(std::move(tracker)), parts_(std::move(parts)), count_(count) {}
  PendingUpdates(const PendingUpdates&) = delete;
  PendingUpdates& operator=(const PendingUpdates&) = delete;
  ~PendingUpdates() {
    const Unlocked unlocked;
    for (std::size_t i = 0; i < begun_; ++i) {
      try {
        engine_of(parts_[i].place.device).forget(parts_[i].ticket);
      } catch (const std::exception&) {
        // A forked child, where nothing is left of it.
      }
    }
  }

  // False if all slots of a device are taken.
  bool begin(const Options& options) {
    {
      const std::lock_guard lock(tracker_->mutex);
      number_ = tracker_->submitted++;
    }
    for (; begun_ < parts_.size(); ++begun_) {
      Pairs& part = parts_[begun_];
      const std::span<const cuda::PairView> views = part.views;
      try {
        const auto ticket = engine_of(part.place.device).try_submit(views, options, part.place.stream);
        if (!ticket) return false;
        part.ticket = *ticket;
      } catch (const cuda::TensorError& error) {
        throw py::value_error(error.argument + "[" + std::to_string(part.rows[error.index]) + "]: " + error.why);
      }
    }
    return true;
  }

  bool ready() {
    if (result_) return true;
    for (const Pairs& part : parts_) {
      if (!engine_of(part.place.device).ready(part.ticket)) return false;
    }
    return true;
  }

  py::tuple result() {
    // Taken without the GIL, and kept until the result is there: another thread may ask too.
    std::unique_lock lock(mutex_, std::defer_lock);
    {
      const Unlocked unlocked;
      lock.lock();
    }
    if (result_) return *result_;
    std::vector<Update> updates(count_);
    {
      const Unlocked unlocked;
      take(updates);
    }
    result_ = tuple_of(std::move(updates));
    return *result_;
  }

 private:
  void take(std::vector<Update>& updates) {
    const std::lock_guard lock(tracker_->mutex);
    // Of a comparison that nobody has taken, the size of the difference is not known.
    if (tracker_->taken != number_ || tracker_->last.size() != count_) tracker_->last.assign(count_, {});
    for (; begun_ != 0; --begun_) {
      const Pairs& part = parts_[begun_ - 1];
      std::vector<cuda::Compared> found = engine_of(part.place.device).take(part.ticket).pairs;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const std::size_t row = part.rows[i];
        updates[row] = update_of(std::move(found[i].comparison), found[i].along_last, tracker_->last[row]);
      }
    }
    tracker_->taken = number_ + 1;
  }

  const std::shared_ptr<DeviceUpdates> tracker_;
  std::vector<Pairs> parts_;
  const std::size_t count_;
  std::size_t begun_ = 0;  // parts that are under way
  std::uint64_t number_ = 0;
  std::mutex mutex_;
  std::optional<py::tuple> result_;
};

namespace {

std::unique_ptr<PendingUpdates> try_compare(const std::shared_ptr<DeviceUpdates>& tracker, py::handle old_tensors,
                                            py::handle new_tensors, py::handle last, py::handle histogram,
                                            py::handle resolution) {
  const Options options = options_of(histogram, resolution, py::bool_(false), py::none());
  const std::vector<Input> old_ones = dense_of(old_tensors, "old"), new_ones = dense_of(new_tensors, "new");
  auto pending = std::make_unique<PendingUpdates>(
      tracker, pairs_of(old_ones, new_ones, dense_of(last, "last"), options), new_ones.size());
  const Unlocked unlocked;
  return pending->begin(options) ? std::move(pending) : nullptr;
}

}  // namespace

void register_device_updates(py::module_& m) {
  py::class_<PendingUpdates>(m, "PendingUpdates", py::is_final(), "Updates that a CUDA device is still computing.")
      .def(
          "ready",
          [](PendingUpdates& pending) {
            const Unlocked unlocked;
            return pending.ready();
          },
          "Whether result() would return at once. Never waits. RuntimeError if the device has failed meanwhile.")
      .def("result", &PendingUpdates::result,
           "What UpdateTracker.after() returns; waits for it. Of one tracker, they are to be taken in their order.");
  py::class_<DeviceUpdates, std::shared_ptr<DeviceUpdates>>(
      m, "DeviceUpdateTracker", py::is_final(),
      "UpdateTracker of tensors on CUDA devices, whose copies and last differences its caller keeps there.")
      .def(py::init<>())
      .def("try_compare", &try_compare, py::arg("old"), py::arg("new"), py::arg("last"), py::kw_only(),
           py::arg("histogram") = false, py::arg("resolution") = 6,
           R"(Compare copies of tensors with what they are now; None if all slots of a device are taken.

old, new, last: sequences of as many dense CUDA tensors, alike in dtype, shape and layout. last: contiguous, of float32 (float64
for float64 and wider integers): the difference found before, or zeros at first; the difference found now takes its place.
Raises TypeError or ValueError for others, and RuntimeError as summarize does.)");
}

}  // namespace tensometer
