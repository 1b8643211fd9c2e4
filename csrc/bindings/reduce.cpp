#include "reduce.hpp"

#include <pybind11/stl.h>

#include "bindings.hpp"

namespace tensometer {
namespace {

// What a sparse tensor stores does not tell where it stores it.
void check_fingerprint(const Input& input, const Options& options, const char* argument) {
  if (options.fingerprint && input.tensor.shape != input.tensor.values.shape) {
    throw py::value_error(std::string(argument) + ": is sparse, and a fingerprint is of dense tensors only");
  }
}

constexpr const char* options_doc = R"(

Extremes, moments and norms are those of the finite elements; NaN and infinities are counted beside them. An empty tensor
has counts, sums and norms of 0, and NaN for extremes, mean and variance.

histogram: True for the logarithmic histogram; "sampled" to estimate that of a large tensor: its first 2**16 elements are
counted, after them one block of 4096 in two, in four, and from 2**18 on in eight, so many times over. resolution: 0 to 7, the
histogram has 2**resolution bins an octave. fingerprint: also hash bits and shape. threads: 1 to 1024; by default
TENSOMETER_NUM_THREADS or the CPUs that this process may use. Raises TypeError for what is no tensor or has an
unsupported dtype, ValueError for a tensor that is not in CPU memory or an option out of range.)";

TensorSummary summarize_one(py::handle x, py::handle histogram, py::handle resolution, py::handle fingerprint,
                            py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  const Input input = input_of(x, "x");
  check_fingerprint(input, options, "x");
  const Unlocked unlocked;
  return std::move(summarize({&input.tensor, 1}, options)[0]);
}

// A key of a mapping.
std::string name_of_tensor(py::handle name) {
  if (!py::isinstance<py::str>(name)) throw py::type_error("tensors: the names of a mapping must be strings");
  return text_of(name, "tensors: the name");
}

SummaryTable summarize_all(py::handle tensors, py::handle histogram, py::handle resolution, py::handle fingerprint,
                           py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  SummaryTable table;
  table.fingerprints = options.fingerprint;
  std::vector<SparseView> views;
  std::vector<py::object> owners;
  const auto add = [&](py::handle x, const std::string& key) {
    const std::string argument = "tensors[" + key + "]";
    Input input = input_of(x, argument.c_str());
    check_fingerprint(input, options, argument.c_str());
    views.push_back(std::move(input.tensor));
    owners.push_back(std::move(input.owner));
  };
  if (py::hasattr(tensors, "items") && py::hasattr(tensors, "keys")) {
    table.names.emplace();
    for (py::handle item : tensors.attr("items")()) {
      if (!py::isinstance<py::tuple>(item) || py::len(item) != 2) {
        throw py::type_error("tensors: its items() are not pairs of a name and a tensor");
      }
      const auto pair = py::reinterpret_borrow<py::tuple>(item);
      table.names->push_back(name_of_tensor(pair[0]));
      add(pair[1], "'" + table.names->back() + "'");
    }
  } else {
    if (!py::isinstance<py::iterable>(tensors) || py::isinstance<py::str>(tensors)) {
      throw py::type_error("tensors: " + std::string(py::str(py::type::handle_of(tensors).attr("__name__"))) +
                           " is neither an iterable nor a mapping of tensors");
    }
    for (py::handle x : py::iter(tensors)) add(x, std::to_string(views.size()));
  }
  const Unlocked unlocked;
  table.rows = summarize(views, options);
  return table;
}

SummaryTable summarize_dim(py::handle x, py::handle dim_argument, py::handle histogram, py::handle resolution,
                           py::handle fingerprint, py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  const Input input = input_of(x, "x");
  const TensorView& view = input.tensor.values;
  if (input.tensor.shape != view.shape) throw py::type_error("x: is sparse; summarize_units takes dense tensors");
  const auto rank = static_cast<py::ssize_t>(view.shape.size());
  const py::ssize_t dim = whole_number(dim_argument, "dim", -64, 63);
  if (dim < -rank || dim >= rank) {
    throw py::value_error("dim: " + std::to_string(dim) + " is out of range for a tensor of " + std::to_string(rank) +
                          " dimensions");
  }
  SummaryTable table;
  table.fingerprints = options.fingerprint;
  const Unlocked unlocked;
  table.rows = summarize_units(view, static_cast<std::size_t>(dim < 0 ? dim + rank : dim), options);
  return table;
}

}  // namespace

void register_reduce(py::module_& m) {
  static const std::string one = std::string(R"(Reduce a tensor to its Summary in one pass.

x: a NumPy array, torch CPU tensor (dense or sparse), or anything with DLPack, an array interface or a buffer; any shape,
strides, alignment and byte order; read in place, a copy is made of at most one block at a time.)") +
                                 options_doc;
  static const std::string many = std::string(R"(Summarize many tensors in one pass over the thread pool.

tensors: an iterable of tensors or a mapping from names to tensors. Returns a SummaryTable with a row for each.)") +
                                  options_doc;
  static const std::string units =
      std::string(R"(Summarize x at every index along one dimension: neurons, channels, experts.

Returns a SummaryTable with x.shape[dim] rows; row i is the summary of x with index i at dim. dim may be negative;
ValueError if x has no such dimension.)") +
      options_doc;
  const auto define = [&m](const char* name, auto function, const std::string& doc, auto... arguments) {
    m.def(name, function, arguments..., py::kw_only(), py::arg("histogram") = false, py::arg("resolution") = 6,
          py::arg("fingerprint") = false, py::arg("threads") = py::none(), doc.c_str());
  };
  define("summarize", &summarize_one, one, py::arg("x"));
  define("summarize_many", &summarize_all, many, py::arg("tensors"));
  define("summarize_units", &summarize_dim, units, py::arg("x"), py::arg("dim") = 0);
}

}  // namespace tensometer
