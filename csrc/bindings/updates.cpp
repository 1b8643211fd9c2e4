#include "updates.hpp"

#include <algorithm>
#include <mutex>

#include "bindings.hpp"

namespace tensometer {

py::tuple tuple_of(std::vector<Update>&& updates) {
  SummaryTable table;
  std::vector<double> ratios, changed, cosines;
  for (Update& update : updates) {
    ratios.push_back(update.ratio);
    changed.push_back(update.changed_fraction);
    cosines.push_back(update.cosine);
    table.rows.push_back(std::move(update.difference));
  }
  py::dict columns;
  columns["ratio"] = array_of(ratios);
  columns["changed_fraction"] = array_of(changed);
  columns["cosine"] = array_of(cosines);
  return py::make_tuple(std::move(table), columns);
}

// Locked: another thread may call while one works without the GIL.
class Updates {
 public:
  void before(py::handle tensors, py::handle threads) {
    const Options options = options_of(py::bool_(false), py::int_(0), py::bool_(false), threads);
    const Inputs inputs(tensors);
    const Unlocked unlocked;
    const std::lock_guard lock(mutex_);
    tracker_.before(inputs.views, options.threads);
  }

  py::tuple after(py::handle tensors, py::handle histogram, py::handle resolution, py::handle threads) {
    const Options options = options_of(histogram, resolution, py::bool_(false), threads);
    const Inputs inputs(tensors);
    std::vector<Update> updates;
    {
      const Unlocked unlocked;
      const std::lock_guard lock(mutex_);
      updates = tracker_.after(inputs.views, options);
    }
    return tuple_of(std::move(updates));
  }

  py::array difference(py::handle index) const {
    const std::lock_guard lock(mutex_);
    const long last = static_cast<long>(tracker_.size()) - 1;
    if (last < 0) throw py::index_error("index: nothing is tracked yet");
    const auto found = tracker_.difference(static_cast<std::size_t>(whole_number(index, "index", 0, last)));
    const auto item_size = static_cast<py::ssize_t>(row(found.dtype).item_size);
    std::vector<py::ssize_t> strides(found.shape.size(), item_size);
    py::ssize_t stride = item_size;
    const auto place = [&](std::size_t dim) {
      strides[dim] = stride;
      stride *= static_cast<py::ssize_t>(std::max<std::int64_t>(1, found.shape[dim]));
    };
    for (const std::uint32_t dim : found.order) place(dim);
    for (std::size_t dim = found.shape.size(); found.order.empty() && dim-- > 0;) place(dim);
    const py::dtype dtype = found.dtype == DType::k_float32 ? py::dtype::of<float>() : py::dtype::of<double>();
    return py::array(dtype, found.shape, strides, found.lanes);  // a copy
  }

 private:
  struct Inputs {
    std::vector<TensorView> views;
    std::vector<py::object> owners;

    explicit Inputs(py::handle tensors) {
      if (!py::isinstance<py::iterable>(tensors) || py::isinstance<py::str>(tensors)) {
        throw py::type_error("tensors: " + shown(tensors) + " is no iterable of tensors");
      }
      for (const py::handle x : py::iter(tensors)) {
        const std::string argument = "tensors[" + std::to_string(views.size()) + "]";
        Input input = host_input_of(x, argument.c_str());
        if (input.tensor.shape != input.tensor.values.shape) throw py::type_error(argument + ": is sparse");
        views.push_back(std::move(input.tensor.values));
        owners.push_back(std::move(input.owner));
      }
    }
  };

  mutable std::mutex mutex_;
  UpdateTracker tracker_;
};

void register_updates(py::module_& m) {
  py::class_<Updates>(m, "UpdateTracker", py::is_final(),
                      R"(What an optimizer changes: tensors before and after its step, reduced in one pass over both.

Holds a copy of every tensor, and its last difference in float32 (float64 for float64 and wider integers).)")
      .def(py::init<>())
      .def("before", &Updates::before, py::arg("tensors"), py::kw_only(), py::arg("threads") = py::none(),
           R"(Copy dense tensors of CPU memory. ValueError for complex ones, TypeError for what is no dense tensor.)")
      .def(
          "after", &Updates::after, py::arg("tensors"), py::kw_only(), py::arg("histogram") = false,
          py::arg("resolution") = 6, py::arg("threads") = py::none(),
          R"(Compare with the copies: a SummaryTable of the differences (new - old), and columns of one float64 a tensor.

ratio: the difference's norm to the old tensor's; 0 if nothing changed, inf if the old is zero or a difference not finite.
changed_fraction: pairs that are not equal over all, NaN if empty. cosine: with the difference of the after() before; NaN
without one, or if either is zero or not finite. ValueError if these are not the tensors of before().)")
      .def("difference", &Updates::difference, py::arg("index"),
           "A copy of the last difference of one tensor. IndexError before the first, ValueError beyond the last.");
}

}  // namespace tensometer
