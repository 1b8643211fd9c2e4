// What the binding files share. One file a concept, each with its register_<concept>.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "compare.hpp"
#include "reduce.hpp"
#include "stream.hpp"

namespace tensometer {

namespace py = pybind11;

void register_dispatch(py::module_& m);
void register_histogram(py::module_& m);
void register_summary(py::module_& m);
void register_table(py::module_& m);
void register_compare(py::module_& m);
void register_stream(py::module_& m);
void register_reduce(py::module_& m);

// A tensor of any library as memory: the view, and what keeps that memory alive.
struct Input {
  SparseView tensor;
  py::object owner;
};

// Raises TypeError for what is no tensor or has a dtype that cannot be summarized, ValueError for one that does not lie
// in this machine's memory; both name `argument` and what was found.
Input input_of(py::handle x, const char* argument);

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

// A dtype's name, a NumPy, ml_dtypes or torch dtype object. TypeError or ValueError otherwise.
DType dtype_of(py::handle dtype, const char* argument);
std::string name_of(DType dtype);

// A whole number from low to high (anything with __index__, but no bool); TypeError or ValueError otherwise.
long whole_number(py::handle value, const char* argument, long low, long high);

// Checks the keyword arguments that every entry point takes. threads None means 0.
Options options_of(py::handle histogram, py::handle resolution, py::handle fingerprint, py::handle threads);

// A column of numbers or a list of tensors as Python sees them.
py::tuple shape_tuple(const std::vector<std::int64_t>& shape);
py::dict summary_dict(const TensorSummary& s);

struct SummaryTable {
  std::vector<TensorSummary> rows;
  std::optional<std::vector<std::string>> names;
  bool fingerprints = false;  // whether they were asked for
};

}  // namespace tensometer
