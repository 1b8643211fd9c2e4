#include "bindings.hpp"
#include "dispatch.hpp"
#include "pool.hpp"

namespace tensometer {

long whole_number(py::handle value, const char* argument, long low, long high) {
  if (PyIndex_Check(value.ptr()) == 0 || PyBool_Check(value.ptr())) {
    throw py::type_error(std::string(argument) + ": " + std::string(py::repr(value)) + " is not a whole number");
  }
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {  // an array has __index__ and may still not be one number
    PyErr_Clear();
    throw py::type_error(std::string(argument) + ": " + std::string(py::repr(value)) + " is not a whole number");
  }
  int overflow = 0;
  const long number = PyLong_AsLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < low || number > high) {
    throw py::value_error(std::string(argument) + ": " + std::string(py::repr(value)) + " is not between " +
                          std::to_string(low) + " and " + std::to_string(high));
  }
  return number;
}

namespace {

bool yes_or_no(py::handle value, const char* argument) {
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True;
  throw py::type_error(std::string(argument) + ": " + std::string(py::repr(value)) + " is not True or False");
}

HistogramMode histogram_mode(py::handle value) {
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True ? HistogramMode::full : HistogramMode::none;
  if (PyUnicode_Check(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), "sampled") == 0) {
    return HistogramMode::sampled;
  }
  throw py::value_error("histogram: " + std::string(py::repr(value)) + " is not True, False or 'sampled'");
}

}  // namespace

Options options_of(py::handle histogram, py::handle resolution, py::handle fingerprint, py::handle threads) {
  Options options;
  options.histogram = histogram_mode(histogram);
  options.resolution = static_cast<unsigned>(whole_number(resolution, "resolution", 0, max_resolution));
  options.fingerprint = yes_or_no(fingerprint, "fingerprint");
  // The environment is read here, under the GIL: os.environ may change while the work goes on without it.
  static_cast<void>(instruction_set());
  options.threads =
      threads.is_none() ? threads_from_environment() : static_cast<unsigned>(whole_number(threads, "threads", 1, 1024));
  return options;
}

}  // namespace tensometer
