// Summaries that are not there yet.
#include <pybind11/stl.h>

#include <algorithm>
#include <exception>
#include <set>

#include "own_mutex.hpp"
#include "placed.hpp"

namespace tensometer {

// CUDA's name of the stream that waits for all others of its kind, taken where a library names none.
const auto legacy_stream = reinterpret_cast<cuda::StreamHandle>(1);

// A tensor that has no row: its number of those given, and why. Found without the GIL, that is a sentence of a ValueError.
struct Refused {
  std::size_t number;
  py::object error;
  std::string sentence;
};

// Tensors that can be read, which of those given they are and how errors name them, and the others.
struct Readable {
  Inputs inputs;
  std::vector<std::size_t> numbers;
  std::vector<std::string> arguments;
  std::vector<Refused> refused;
};

// What was submitted, and the rows of tensors in the host's memory, which are there at once.
class Pending {
 public:
  struct Submitted {
    Part part;
    cuda::Ticket ticket;
    bool taken = false;
  };

  Pending(Inputs&& inputs, const Options& options, bool one) : inputs_(std::move(inputs)), one_(one) {
    table_.names = std::move(inputs_.names);
    table_.fingerprints = options.fingerprint;
    table_.rows.resize(inputs_.tensors.size());
  }
  // Of what can be read, and this never waits.
  Pending(Readable&& readable, const Options& options) : Pending(std::move(readable.inputs), options, false) {
    numbers_ = std::move(readable.numbers);
    arguments_ = std::move(readable.arguments);
    refused_ = std::move(readable.refused);
  }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() {
    if (submitted_.empty()) return;
    const Unlocked unlocked;
    for (const Submitted& submitted : submitted_) {
      try {
        if (!submitted.taken) engine_of(submitted.part.place.device).forget(submitted.ticket);
      } catch (const std::exception&) {
        // A forked child, where nothing is left of it.
      }
    }
  }

  // Launches. If `waits` is false: false, with nothing under way, if all slots of a device are taken, and a tensor that the
  // device refuses does not take the others with it.
  bool begin(const Options& options, bool waits) {
    for (Part& part :
         parts_of(inputs_.tensors, inputs_.places, options, waits ? cuda::Room::most : cuda::Room::usual)) {
      if (!submit(part, options, waits)) return false;
    }
    std::sort(refused_.begin(), refused_.end(), [](const Refused& a, const Refused& b) { return a.number < b.number; });
    std::vector<SparseView> here;
    std::vector<std::size_t> rows;
    for (std::size_t i = 0; i < inputs_.tensors.size(); ++i) {
      if (inputs_.places[i].on_device()) continue;
      here.push_back(inputs_.tensors[i]);
      rows.push_back(i);
    }
    KeptVector<TensorSummary> summaries = summarize(here, options);
    for (std::size_t i = 0; i < rows.size(); ++i) table_.rows[rows[i]] = std::move(summaries[i]);
    return true;
  }

  bool ready() {
    for (const Submitted& submitted : submitted_) {
      if (!submitted.taken && !engine_of(submitted.part.place.device).ready(submitted.ticket)) return false;
    }
    return true;
  }

  // Waits.
  const SummaryTable& table() {
    for (Submitted& submitted : submitted_) {
      if (submitted.taken) continue;
      std::vector<cuda::Found> found = engine_of(submitted.part.place.device).take(submitted.ticket).tensors;
      submitted.taken = true;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const std::size_t row = submitted.part.rows[i];
        if (found[i].bins_lost) bins_lost_.push_back(row);
        table_.rows[row] = row_of(std::move(found[i]), inputs_.tensors[row]);
      }
    }
    leave_out();
    return table_;
  }

  bool one() const { return one_; }
  // Of the rows of table(): those whose histogram found no room.
  const std::vector<std::size_t>& bins_lost() const { return bins_lost_; }
  py::list refused() const {
    py::list all;
    for (const Refused& one : refused_) {
      const py::object error = one.error ? one.error : py::handle(PyExc_ValueError)(one.sentence);
      all.append(py::make_tuple(one.number, error));
    }
    return all;
  }
  // Lets go of what keeps the tensors alive; but not, until the device is done, of those whose library has named no stream: their
  // memory may be given back in another one's order.
  void release(bool done) {
    for (std::size_t i = 0; i < inputs_.owners.size(); ++i) {
      if (done || inputs_.places[i].stream != legacy_stream) inputs_.owners[i] = py::none();
    }
  }
  OwnMutex& mutex() { return mutex_; }

 private:
  bool submit(Part& part, const Options& options, bool waits) {
    cuda::Engine& engine = engine_of(part.place.device);
    while (!part.views.empty()) {
      const std::span<const TensorView> views = part.views;
      try {
        const std::optional<cuda::Ticket> ticket = waits ? engine.submit(views, options, part.place.stream)
                                                         : engine.try_submit(views, options, part.place.stream);
        if (!ticket) return false;
        submitted_.push_back({std::move(part), *ticket});
        return true;
      } catch (const cuda::TensorError& error) {
        if (waits) {
          throw py::value_error((one_ ? "x" : argument_of(table_.names, part.rows[error.index])) + ": " + error.why);
        }
        // From the last on, so that the others keep their places.
        for (auto more = error.more.rbegin(); more != error.more.rend(); ++more) refuse(part, more->index, more->why);
        refuse(part, error.index, error.why);
      }
    }
    return true;
  }

  void refuse(Part& part, std::size_t index, const std::string& why) {
    const std::size_t row = part.rows[index];
    refused_.push_back({numbers_[row], {}, arguments_[row] + ": " + why});
    left_out_.insert(row);
    part.rows.erase(part.rows.begin() + static_cast<std::ptrdiff_t>(index));
    part.views.erase(part.views.begin() + static_cast<std::ptrdiff_t>(index));
  }

  // Of what a device has refused there are no rows.
  void leave_out() {
    for (std::size_t& lost : bins_lost_) {
      lost -= static_cast<std::size_t>(std::distance(left_out_.begin(), left_out_.lower_bound(lost)));
    }
    for (; !left_out_.empty(); left_out_.erase(std::prev(left_out_.end()))) {
      table_.rows.erase(table_.rows.begin() + static_cast<std::ptrdiff_t>(*left_out_.rbegin()));
    }
  }

  Inputs inputs_;
  const bool one_;
  std::vector<std::size_t> numbers_;
  std::vector<std::string> arguments_;
  std::vector<Refused> refused_;
  std::set<std::size_t> left_out_;  // rows of table_ that are still in it
  std::vector<Submitted> submitted_;
  SummaryTable table_;
  std::vector<std::size_t> bins_lost_;
  OwnMutex mutex_;
};

namespace {

// A tensor has a shape; what holds tensors has none.
bool holds_tensors(py::handle x) {
  return PyList_Check(x.ptr()) || PyTuple_Check(x.ptr()) || (py::hasattr(x, "items") && py::hasattr(x, "keys")) ||
         PyIter_Check(x.ptr());
}

std::unique_ptr<Pending> made(py::handle x, const Options& options) {
  if (holds_tensors(x)) return std::make_unique<Pending>(inputs_of(x, options), options, false);
  Input input = summarized_input_of(x, options, "x");
  Inputs inputs;
  inputs.tensors.push_back(std::move(input.tensor));
  inputs.places.push_back(input.place);
  inputs.owners.push_back(std::move(input.owner));
  return std::make_unique<Pending>(std::move(inputs), options, true);
}

std::unique_ptr<Pending> summarize_async(py::handle x, py::handle histogram, py::handle resolution,
                                         py::handle fingerprint, py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  std::unique_ptr<Pending> pending = made(x, options);
  const Unlocked unlocked;
  pending->begin(options, true);
  return pending;
}

// What Python would be told; nothing if nothing is wrong. Without the frames, which would keep a tensor alive.
template <class Read>
py::object error_of(Read&& read) {
  try {
    read();
    return {};
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    PyException_SetTraceback(error.value().ptr(), Py_None);
    return error.value();
  } catch (const py::builtin_exception& error) {
    error.set_error();
    return py::error_already_set().value();
  }
}

Readable readable_of(const py::list& tensors, const std::vector<std::string>& names, const Options& options) {
  if (tensors.size() != names.size()) {
    throw py::value_error("names: are " + std::to_string(names.size()) + " of " + std::to_string(tensors.size()) +
                          " tensors");
  }
  Readable readable;
  for (std::size_t i = 0; i < names.size(); ++i) {
    Input input;
    if (py::object error = error_of([&] { input = summarized_input_of(tensors[i], options, names[i].c_str()); })) {
      readable.refused.push_back({i, std::move(error), ""});
      continue;
    }
    readable.inputs.tensors.push_back(std::move(input.tensor));
    readable.inputs.places.push_back(input.place);
    readable.inputs.owners.push_back(std::move(input.owner));
    readable.numbers.push_back(i);
    readable.arguments.push_back(names[i]);
  }
  return readable;
}

std::unique_ptr<Pending> try_summarize(const py::list& tensors, const std::vector<std::string>& names,
                                       py::handle histogram, py::handle resolution, py::handle fingerprint,
                                       py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  auto pending = std::make_unique<Pending>(readable_of(tensors, names, options), options);
  bool began = false;
  {
    const Unlocked unlocked;
    began = pending->begin(options, false);
  }
  pending->release(false);
  return began ? std::move(pending) : nullptr;
}

py::object result_of(Pending& pending) {
  const SummaryTable* table = nullptr;
  {
    const Unlocked unlocked;
    const std::lock_guard lock(pending.mutex());
    table = &pending.table();
  }
  pending.release(true);
  if (pending.one()) return py::cast(table->rows[0]);
  return py::cast(*table);
}

}  // namespace

void register_pending(py::module_& m) {
  py::class_<Pending>(m, "Pending", py::is_final(),
                      R"(Summaries that a CUDA device is still computing, as summarize_async returns them.)")
      .def(
          "ready",
          [](Pending& pending) {
            const Unlocked unlocked;
            const std::unique_lock lock(pending.mutex(), std::try_to_lock);  // another thread waits for the result
            return lock.owns_lock() && pending.ready();
          },
          "Whether result() would return at once. Never waits. RuntimeError if the device has failed meanwhile.")
      .def_property_readonly("bins_lost", &Pending::bins_lost,
                             "Which rows of result() have no histogram because there was no room.")
      .def_property_readonly("refused", &Pending::refused,
                             "Which tensors have no row in result() because they cannot be read, and their errors.")
      .def("result", &result_of,
           R"(The Summary of the tensor, or the SummaryTable of the tensors, that were submitted; waits for it.

As often as asked for. RuntimeError if the device has failed, or in a forked child.)");
  const auto define = [&m](const char* name, auto function, const char* doc, auto... arguments) {
    m.def(name, function, arguments..., py::kw_only(), py::arg("histogram") = false, py::arg("resolution") = 6,
          py::arg("fingerprint") = false, py::arg("threads") = py::none(), doc);
  };
  define("summarize_async", &summarize_async,
         R"(As summarize or summarize_many, but returns without waiting for a CUDA device.

x: a tensor, or a list, tuple, iterator or mapping of tensors. Returns a Pending, whose result() is a Summary or a SummaryTable.
The device reads the tensors in the order of its stream (torch's current one): what the stream does to them afterwards changes
no result, and they are kept alive until then. What another stream does to them has to wait for this one. At most 32 submits may
be under way on a device; another waits for the first. Tensors in the host's memory are reduced before the call returns.
Raises what summarize raises.)",
         py::arg("x"));
  define("try_summarize", &try_summarize,
         R"(As summarize_async of many tensors, for a training loop: returns None rather than wait.

names: what errors call the tensors. One that cannot be read is left out, see Pending.refused. It keeps no tensor of torch alive:
their memory has to be given back in the order of the stream. A histogram that found no room is None; there is room from the next
call on.)",
         py::arg("tensors"), py::arg("names"));
}

}  // namespace tensometer
