// Arguments: conversion, and the sentence if they are wrong.
#include "bindings.hpp"
#include "dispatch.hpp"
#include "pool.hpp"

namespace tensometer {
namespace {

[[noreturn]] void refuse(py::handle value, const char* argument, const char* what) {
  throw py::type_error(std::string(argument) + ": " + shown(value) + " is not " + what);
}

}  // namespace

std::string shown(py::handle value) {
  constexpr Py_ssize_t many = 20;
  constexpr std::size_t longest = 80;
  const std::string type = Py_TYPE(value.ptr())->tp_name;
  const Py_ssize_t length = PyObject_Size(value.ptr());
  if (length < 0) PyErr_Clear();
  if (length <= many || (PyUnicode_Check(value.ptr()) && length <= static_cast<Py_ssize_t>(longest))) {
    const auto text = py::reinterpret_steal<py::object>(PyObject_ASCII(value.ptr()));
    if (text) {
      std::string found = py::str(text);
      if (found.size() <= longest && found.find('\n') == std::string::npos) return found;
    }
    PyErr_Clear();
  }
  return type + (length < 0 ? "" : " of length " + std::to_string(length));
}

double real_number(py::handle value, const char* argument) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1 && PyErr_Occurred() != nullptr) {
    const bool too_large = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
    PyErr_Clear();
    if (too_large)
      throw py::value_error(std::string(argument) + ": " + shown(value) + " is beyond the range of float64");
    refuse(value, argument, "a number");
  }
  return number;
}

std::string text_of(py::handle value, const char* argument) {
  if (!PyUnicode_Check(value.ptr())) refuse(value, argument, "a string");
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (text != nullptr) return {text, static_cast<std::size_t>(size)};
  PyErr_Clear();  // Python's strings may hold surrogates, which are no text
  throw py::value_error(std::string(argument) + ": " + shown(value) + " is not valid text");
}

std::string short_text_of(py::handle value, const char* argument) {
  const std::string text = text_of(value, argument);
  if (text.size() > 100) throw py::value_error(std::string(argument) + ": " + shown(value) + " is no name known here");
  return text;
}

Edges edges_of(py::handle value, const char* argument) {
  py::array array;
  try {
    array = py::module_::import("numpy").attr("asarray")(value);
  } catch (const py::error_already_set&) {
    refuse(value, argument, "a sequence of edges");
  }
  if (std::string("biuf").find(array.dtype().kind()) == std::string::npos) refuse(value, argument, "numbers");
  if (array.ndim() != 1 || array.size() < 2) {
    throw py::value_error(std::string(argument) + ": edges must be a sequence of at least 2, not of shape " +
                          std::string(py::str(array.attr("shape"))));
  }
  return Edges(array);
}

long whole_number(py::handle value, const char* argument, long low, long high) {
  if (PyIndex_Check(value.ptr()) == 0 || PyBool_Check(value.ptr())) {
    refuse(value, argument, "a whole number");
  }
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {  // an array has __index__ and may still not be one number
    PyErr_Clear();
    refuse(value, argument, "a whole number");
  }
  int overflow = 0;
  const long number = PyLong_AsLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < low || number > high) {
    throw py::value_error(std::string(argument) + ": " + shown(value) + " is not between " + std::to_string(low) +
                          " and " + std::to_string(high));
  }
  return number;
}

namespace {

bool yes_or_no(py::handle value, const char* argument) {
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True;
  refuse(value, argument, "True or False");
}

HistogramMode histogram_mode(py::handle value) {
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True ? HistogramMode::full : HistogramMode::none;
  if (PyUnicode_Check(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), "sampled") == 0) {
    return HistogramMode::sampled;
  }
  throw py::value_error("histogram: " + shown(value) + " is not True, False or 'sampled'");
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
