// What the binding files share. One file a concept, each with its register_<concept>.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <optional>
#include <span>
#include <string>

#include "compare.hpp"
#include "cuda/driver.hpp"
#include "reduce.hpp"
#include "stream.hpp"

namespace tensometer {

namespace py = pybind11;

void register_dispatch(py::module_& m);
void register_threads(py::module_& m);
void register_histogram(py::module_& m);
void register_log_histogram(py::module_& m);
void register_summary(py::module_& m);
void register_table(py::module_& m);
void register_compare(py::module_& m);
void register_stream(py::module_& m);
void register_reduce(py::module_& m);
void register_records(py::module_& m);
void register_updates(py::module_& m);
void register_cuda(py::module_& m);
void register_pending(py::module_& m);
void register_device_updates(py::module_& m);

// Whose memory a tensor lies in: a CUDA device's, where a stream orders what is done with it, or the host's.
struct Place {
  int device = -1;  // none: the host's
  cuda::StreamHandle stream = nullptr;

  bool on_device() const { return device >= 0; }
  auto operator<=>(const Place&) const = default;
};

// A tensor of any library as memory: the view, and what keeps that memory alive.
struct Input {
  SparseView tensor;
  py::object owner;
  Place place;
};

// Raises TypeError for what is no tensor or has a dtype that cannot be summarized, ValueError for one that lies neither in
// the host's memory nor in a CUDA device's; both name `argument` and what was found.
Input input_of(py::handle x, const char* argument);
// The same for those who read elements one after another on a device: one whose elements lie apart there is copied, as its
// library does.
Input packed_input_of(py::handle x, const char* argument);
// The same for those who read the host's memory alone: ValueError for a CUDA tensor too.
Input host_input_of(py::handle x, const char* argument);

// Many tensors: the rows of a table to be.
struct Inputs {
  std::optional<std::vector<std::string>> names;
  std::vector<SparseView> tensors;
  std::vector<Place> places;
  std::vector<py::object> owners;

  bool on_device() const;  // any of them
};
// How errors name one of them: tensors[3], or tensors['name'].
std::string argument_of(const std::optional<std::vector<std::string>>& names, std::size_t index);
// Of an iterable of tensors, or a mapping from names; TypeError otherwise, and what input_of raises.
Inputs inputs_of(py::handle tensors, const Options& options);
// One of them. A fingerprint is of dense tensors only: ValueError.
Input summarized_input_of(py::handle x, const Options& options, const char* argument);

// The next six wait, without the GIL. A tensor wherever it lies:
TensorSummary summary_of(const Input& input, const Options& options);
// Tensors of which some lie on CUDA devices, all units of one that does, two of one device, one in given bins, and one that is
// a piece, packed:
KeptVector<TensorSummary> summarize_placed(std::span<const SparseView> tensors, std::span<const Place> places,
                                           const Options& options);
KeptVector<TensorSummary> summarize_units_placed(const TensorView& view, const Place& place, std::size_t dim,
                                                 const Options& options);
Comparison compare_placed(const TensorView& old_view, const Place& old_place, const TensorView& new_view,
                          const Place& new_place, const Options& options);
std::vector<std::int64_t> histogram_placed(const TensorView& view, const Place& place, std::span<const double> edges);
ReducedPiece reduce_placed(const TensorView& view, const Place& place, const Cut& cut, const Options& options);

// Lets other Python threads run while it lives. Up to Python 3.13 a thread that asks for the GIL while the interpreter ends is
// unwound, which no destructor survives and which would drop references without the GIL: it sleeps instead, as 3.14 has it.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      while (true) pause();
    }
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

// A dtype's name, a NumPy, ml_dtypes or torch dtype object. TypeError otherwise.
DType dtype_of(py::handle dtype, const char* argument);
// The same for the formats that values may be rounded to; of a name that is no dtype, the name itself.
std::string format_of(py::handle dtype, const char* argument);
std::string name_of(DType dtype);

// Arguments arrive as they are and are converted by these, for then a wrong one is refused by name; pybind11 would print all
// arguments instead, tensors included. `shown` is what such a sentence says was found: its text, or its type if that is long.
std::string shown(py::handle value);
// A whole number from low to high (anything with __index__, but no bool); TypeError or ValueError otherwise.
long whole_number(py::handle value, const char* argument, long low, long high);
// Anything that float() takes, but no text; TypeError otherwise.
double real_number(py::handle value, const char* argument);
std::string text_of(py::handle value, const char* argument);
// A name out of a list: short enough for a sentence that says it is unknown.
std::string short_text_of(py::handle value, const char* argument);
// Edges of bins as float64: one dimension of two or more numbers; TypeError or ValueError otherwise.
using Edges = py::array_t<double, py::array::c_style | py::array::forcecast>;
Edges edges_of(py::handle value, const char* argument);
// One of our own objects; TypeError otherwise.
template <class T>
const T& instance_of(py::handle value, const char* argument, const char* type) {
  if (py::isinstance<T>(value)) return value.cast<const T&>();
  throw py::type_error(std::string(argument) + ": " + shown(value) + " is not a " + type);
}

// Checks the keyword arguments that every entry point takes. threads None means 0.
Options options_of(py::handle histogram, py::handle resolution, py::handle fingerprint, py::handle threads);

// A column of numbers or a list of tensors as Python sees them.
template <class T, class Memory>
py::array_t<T> array_of(const std::vector<T, Memory>& items) {
  return py::array_t<T>(static_cast<py::ssize_t>(items.size()), items.data());
}
py::tuple shape_tuple(std::span<const std::int64_t> shape);
py::dict summary_dict(const TensorSummary& s);

struct SummaryTable : Kept<SummaryTable> {
  KeptVector<TensorSummary> rows;
  std::optional<std::vector<std::string>> names;
  bool fingerprints = false;  // whether they were asked for
};

// Updates as Python sees them: a table of the differences, and columns of what else is known.
struct Update;
py::tuple tuple_of(std::vector<Update>&& updates);

// A dispatched instruction set that `with isa(name):` forces.
struct ForcedIsa {
  std::string name;
  std::vector<std::string> before;  // what each block that is open found
};

struct UniformHistogram {
  py::array counts, edges;
};

class Accumulator;
class Updates;
class Pending;
class DeviceUpdates;
class PendingUpdates;

// pybind11 gives an object that only __new__ has seen memory that nothing wrote. Such objects are refused.
template <class T>
struct InitializedCaster : py::detail::type_caster_base<T> {
  bool load(py::handle source, bool convert) {
    if (!py::detail::type_caster_base<T>::load(source, convert)) return false;
    auto* instance = reinterpret_cast<py::detail::instance*>(source.ptr());
    if (instance->owned && !instance->get_value_and_holder().holder_constructed()) {
      throw py::type_error(std::string(Py_TYPE(source.ptr())->tp_name) + ": this object was never initialised");
    }
    return true;
  }
};

}  // namespace tensometer

namespace pybind11::detail {
#define TENSOMETER_INITIALIZED(type) \
  template <>                        \
  class type_caster<tensometer::type> : public tensometer::InitializedCaster<tensometer::type> {};
TENSOMETER_INITIALIZED(TensorSummary)
TENSOMETER_INITIALIZED(SummaryTable)
TENSOMETER_INITIALIZED(Comparison)
TENSOMETER_INITIALIZED(LogHistogram)
TENSOMETER_INITIALIZED(UniformHistogram)
TENSOMETER_INITIALIZED(ForcedIsa)
TENSOMETER_INITIALIZED(Accumulator)
TENSOMETER_INITIALIZED(Updates)
TENSOMETER_INITIALIZED(Pending)
TENSOMETER_INITIALIZED(DeviceUpdates)
TENSOMETER_INITIALIZED(PendingUpdates)
#undef TENSOMETER_INITIALIZED
}  // namespace pybind11::detail
