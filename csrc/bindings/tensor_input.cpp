// Objects of other libraries -> memory. NumPy arrays and tensors with the DLPack exchange interface (torch 2.9 and later)
// are read here without any Python code; everything else goes through tensometer.tensors.adapt first.
#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "bindings.hpp"
#include "cuda/abi.hpp"
#include "cuda/context.hpp"
#include "dlpack.hpp"

namespace tensometer {
namespace {

std::optional<DType> dtype_named(std::string_view name) {
  for (std::size_t i = 0; i < dtype_count; ++i) {
    if (dtype_rows[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

[[noreturn]] void unsupported(const std::string& found, const char* argument) {
  std::string known;
  for (const DTypeRow& row : dtype_rows) known += (known.empty() ? "" : ", ") + std::string(row.name);
  throw py::type_error(std::string(argument) + ": dtype " + found + " cannot be summarized; dtypes are " + known);
}

std::optional<DType> sized(char kind, std::int64_t size) {
  using D = DType;
  switch (kind) {
  case 'b':
    return D::k_bool;
  case 'f':
    return size == 8   ? std::optional(D::k_float64)
           : size == 4 ? std::optional(D::k_float32)
           : size == 2 ? std::optional(D::k_float16)
                       : std::nullopt;
  case 'c':
    return size == 16 ? std::optional(D::k_complex128) : size == 8 ? std::optional(D::k_complex64) : std::nullopt;
  case 'i':
    return size == 8   ? std::optional(D::k_int64)
           : size == 4 ? std::optional(D::k_int32)
           : size == 2 ? std::optional(D::k_int16)
           : size == 1 ? std::optional(D::k_int8)
                       : std::nullopt;
  case 'u':
    return size == 8   ? std::optional(D::k_uint64)
           : size == 4 ? std::optional(D::k_uint32)
           : size == 2 ? std::optional(D::k_uint16)
           : size == 1 ? std::optional(D::k_uint8)
                       : std::nullopt;
  default:
    return std::nullopt;
  }
}

// Types that NumPy lacks (ml_dtypes) have numbers of their own and are found by name.
DType numpy_dtype(const py::dtype& dtype, const char* argument) {
  constexpr int first_user_type = 256;
  const std::optional<DType> found = dtype.num() < first_user_type
                                         ? sized(dtype.kind(), dtype.itemsize())
                                         : dtype_named(std::string(py::str(dtype.attr("name"))));
  if (!found) unsupported(py::str(static_cast<py::object>(dtype)), argument);
  return *found;
}

Input array_input(const py::array& array, const char* argument) {
  Input input;
  const py::dtype dtype = array.dtype();
  TensorView& view = input.tensor.values;
  view.dtype = numpy_dtype(dtype, argument);
  view.swapped = dtype.byteorder() == '>';
  view.data = static_cast<const std::byte*>(array.data());
  view.shape.assign(array.shape(), array.shape() + array.ndim());
  view.strides.assign(array.strides(), array.strides() + array.ndim());
  input.tensor.shape = view.shape;
  input.owner = array;
  return input;
}

DType dlpack_dtype(const dlpack::DataType& type, py::handle owner, const char* argument) {
  std::optional<DType> found;
  const int size = type.bits / 8;
  switch (type.code) {
  case 0:
    found = sized('i', size);
    break;
  case 1:
    found = sized('u', size);
    break;
  case 2:
    found = sized('f', size);
    break;
  case 4:
    found = size == 2 ? std::optional(DType::k_bfloat16) : std::nullopt;
    break;
  case 5:
    found = sized('c', size);
    break;
  case 6:
    found = sized('b', size);
    break;
  case 10:
    found = DType::k_float8_e4m3fn;
    break;
  case 11:
    found = DType::k_float8_e4m3fnuz;
    break;
  case 12:
    found = DType::k_float8_e5m2;
    break;
  case 13:
    found = DType::k_float8_e5m2fnuz;
    break;
  default:
    break;
  }
  if (type.lanes != 1 || !found || row(*found).item_size * 8 != type.bits) {
    unsupported(py::hasattr(owner, "dtype")
                    ? std::string(py::str(owner.attr("dtype")))
                    : "with DLPack code " + std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits",
                argument);
  }
  return *found;
}

bool on_cuda(const dlpack::Device& device) {
  return device.type == dlpack::cuda || device.type == dlpack::cuda_managed;
}

void check_device(const dlpack::Device& device, const char* argument) {
  if (device.type == dlpack::cpu || device.type == dlpack::cuda_host || on_cuda(device)) return;
  throw py::value_error(std::string(argument) + ": lies on DLPack device type " + std::to_string(device.type) +
                        "; tensors in CPU memory and on CUDA devices are reduced");
}

Input dlpack_input(const dlpack::Tensor& tensor, py::object owner, const char* argument) {
  check_device(tensor.device, argument);
  Input input;
  TensorView& view = input.tensor.values;
  view.dtype = dlpack_dtype(tensor.dtype, owner, argument);
  view.data = static_cast<const std::byte*>(tensor.data) + tensor.byte_offset;
  view.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  view.strides.resize(view.shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = view.shape.size(); i-- > 0;) {
    view.strides[i] = (tensor.strides != nullptr ? tensor.strides[i] : stride) * row(view.dtype).item_size;
    stride *= view.shape[i];
  }
  if (tensor.data == nullptr && view.count() != 0) {
    throw py::value_error(std::string(argument) + ": has no memory (a meta or fake tensor?)");
  }
  input.tensor.shape = view.shape;
  input.owner = std::move(owner);
  if (on_cuda(tensor.device)) input.place = {tensor.device.id, nullptr};
  return input;
}

// The exchange interface of a type, or null. A type keeps its answer, so it is asked once.
dlpack::ExchangeApi* exchange_api(PyTypeObject* type) {
  static auto* known = new std::unordered_map<PyTypeObject*, dlpack::ExchangeApi*>;
  const auto at = known->find(type);
  if (at != known->end()) return at->second;
  dlpack::ExchangeApi* api = nullptr;
  const py::object capsule = py::getattr(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__", py::none());
  if (PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api") != 0) {
    api = static_cast<dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (api->version.major != 1 || api->tensor_from_object == nullptr) api = nullptr;
  }
  Py_INCREF(type);  // so that no other type ever has this address
  return (*known)[type] = api;
}

// torch negates some floating-point views lazily (the imaginary part of a conjugate), which exchanged memory does not show.
bool is_negated(py::handle x, const dlpack::DataType& type) {
  constexpr std::uint8_t floating = 2, complex = 5;
  if ((type.code != floating && type.code != complex) || type.bits < 16) return false;
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  const auto answer = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(x.ptr(), name));
  if (!answer) PyErr_Clear();  // another library's tensor, which knows no such views
  return answer.ptr() == Py_True;
}

std::optional<Input> exchanged(py::handle x, const char* argument) {
  dlpack::ExchangeApi* api = exchange_api(Py_TYPE(x.ptr()));
  if (api == nullptr) return std::nullopt;
  dlpack::Tensor tensor;
  if (api->tensor_from_object(x.ptr(), &tensor) != 0) {
    PyErr_Clear();  // sparse, quantized and the like: adapt knows them, or says what they are
    return std::nullopt;
  }
  if (is_negated(x, tensor.dtype)) return std::nullopt;
  Input input = dlpack_input(tensor, py::reinterpret_borrow<py::object>(x), argument);
  if (input.place.on_device()) {
    void* stream = nullptr;
    if (api->current_stream == nullptr || api->current_stream(tensor.device.type, tensor.device.id, &stream) != 0) {
      PyErr_Clear();
      return std::nullopt;  // adapt asks the library in Python
    }
    input.place.stream = static_cast<cuda::StreamHandle>(stream);
  }
  return input;
}

// A capsule that is never consumed: its own destructor frees the tensor when the owner goes.
Input capsule_input(const py::object& capsule, const char* argument) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
    const auto* managed =
        static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major == 1) return dlpack_input(managed->tensor, capsule, argument);
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0) {
    return dlpack_input(*static_cast<dlpack::Tensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor")), capsule,
                        argument);
  }
  throw py::type_error(std::string(argument) + ": its __dlpack__() returned no DLPack tensor of version 0 or 1");
}

// A tensor by its __cuda_array_interface__, of version 2 or later; its library says nothing of the device.
Input interface_input(const py::dict& interface, const char* argument) {
  Input input;
  TensorView& view = input.tensor.values;
  const auto dtype = interface["dtype"].cast<py::dtype>();
  view.dtype = numpy_dtype(dtype, argument);
  view.swapped = dtype.byteorder() == '>';
  view.data = reinterpret_cast<const std::byte*>(interface["data"].cast<py::tuple>()[0].cast<std::uintptr_t>());
  view.shape = interface["shape"].cast<std::vector<std::int64_t>>();
  view.strides.resize(view.shape.size());
  std::int64_t stride = row(view.dtype).item_size;
  for (std::size_t i = view.shape.size(); i-- > 0; stride *= view.shape[i]) view.strides[i] = stride;
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    view.strides = interface["strides"].cast<std::vector<std::int64_t>>();
  }
  if (view.shape.size() != view.strides.size()) {
    throw py::value_error(std::string(argument) + ": its __cuda_array_interface__ has " +
                          std::to_string(view.shape.size()) + " dimensions and " + std::to_string(view.strides.size()) +
                          " strides");
  }
  input.tensor.shape = view.shape;
  input.owner = interface;
  if (view.count() == 0) return input;
  const std::optional<int> device = cuda::device_of(view.data);
  if (!device) throw py::value_error(std::string(argument) + ": is not in the memory of a CUDA device");
  input.place.device = *device;
  return input;
}

// adapt returns (array or DLPack capsule, dtype name or None, shape or None, number of implicit zeros, stream or None).
Input adapted(py::handle x, const char* argument) {
  // An import lets other threads run, which may come here too.
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> known;
  const auto import = [] { return py::object(py::module_::import("tensometer.tensors").attr("adapt")); };
  const py::object& adapt = known.call_once_and_store_result(import).get_stored();
  const auto parts = py::tuple(adapt(x, argument));
  const py::object memory = parts[0];
  Input input = PyCapsule_CheckExact(memory.ptr()) != 0 ? capsule_input(memory, argument)
                : py::isinstance<py::dict>(memory)      ? interface_input(memory, argument)
                                                        : array_input(py::array(memory), argument);
  if (!parts[1].is_none()) {
    const DType wanted = dtype_of(parts[1], argument);
    if (row(wanted).item_size != row(input.tensor.values.dtype).item_size) {
      throw py::value_error(std::string(argument) + ": " + name_of(wanted) + " has " +
                            std::to_string(row(wanted).item_size) + " bytes an element, its data " +
                            std::to_string(row(input.tensor.values.dtype).item_size));
    }
    input.tensor.values.dtype = wanted;
  }
  if (!parts[2].is_none()) {
    input.tensor.shape = parts[2].cast<std::vector<std::int64_t>>();
    input.tensor.implicit_zeros = parts[3].cast<std::uint64_t>();
  }
  if (!parts[4].is_none()) {
    input.place.stream = reinterpret_cast<cuda::StreamHandle>(parts[4].cast<std::uintptr_t>());
  }
  return input;
}

Input any_input_of(py::handle x, const char* argument) {
  if (Py_TYPE(x.ptr()) == py::detail::npy_api::get().PyArray_Type_) {
    return array_input(py::reinterpret_borrow<py::array>(x), argument);
  }
  std::optional<Input> direct = exchanged(x, argument);
  return direct ? std::move(*direct) : adapted(x, argument);
}

// With at most so many strided dimensions of what lies on a device: else copied by torch's name of that or by CuPy's, both of
// which keep the order of the stream. `wrong`: what it is if that does not help.
Input input_within(std::size_t most_dims, py::handle x, const char* argument, const std::string& wrong) {
  const auto fits = [&](const Input& input) {
    return !input.place.on_device() || ElementReader(input.tensor.values).dims().size() <= most_dims;
  };
  Input input = any_input_of(x, argument);
  const TensorView& view = input.tensor.values;
  for (const char* name : {"contiguous", "copy"}) {
    if (fits(input)) return input;
    const py::object copy = py::getattr(x, name, py::none());
    if (PyCallable_Check(copy.ptr()) == 0) continue;
    Input copied = any_input_of(copy(), argument);
    if (copied.tensor.values.shape == view.shape && copied.tensor.values.dtype == view.dtype) input = std::move(copied);
  }
  if (fits(input)) return input;
  throw py::value_error(std::string(argument) + ": " + wrong + "; pass a contiguous copy");
}

}  // namespace

Input input_of(py::handle x, const char* argument) {
  return input_within(cuda::most_dims, x, argument,
                      "its strides make more than " + std::to_string(cuda::most_dims) + " dimensions of it");
}

Input packed_input_of(py::handle x, const char* argument) {
  return input_within(0, x, argument, "its elements lie apart on its device");
}

Input host_input_of(py::handle x, const char* argument) {
  Input input = input_of(x, argument);
  if (input.place.on_device()) {
    throw py::value_error(std::string(argument) + ": lies on cuda:" + std::to_string(input.place.device) +
                          "; here only tensors in CPU memory are taken");
  }
  return input;
}

DType dtype_of(py::handle dtype, const char* argument) {
  if (py::isinstance<py::dtype>(dtype)) return numpy_dtype(py::reinterpret_borrow<py::dtype>(dtype), argument);
  const bool is_text = PyUnicode_Check(dtype.ptr()) != 0;
  if (!PyType_Check(dtype.ptr())) {
    std::string name = is_text ? short_text_of(dtype, argument) : std::string(py::str(dtype));
    if (name.starts_with("torch.")) name = name.substr(6);
    if (const std::optional<DType> found = dtype_named(name)) return *found;
  }
  // NumPy's other spellings: types such as numpy.float32, and names such as "f4" and "half".
  if (is_text || PyType_Check(dtype.ptr())) {
    try {
      return numpy_dtype(py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype)), argument);
    } catch (const py::error_already_set&) {
    }
  }
  unsupported(shown(dtype), argument);
}

std::string format_of(py::handle dtype, const char* argument) {
  if (PyUnicode_Check(dtype.ptr())) {
    try {
      return name_of(dtype_of(dtype, argument));
    } catch (const py::builtin_exception&) {
      return short_text_of(dtype, argument);  // to be refused as the others are
    }
  }
  return name_of(dtype_of(dtype, argument));
}

std::string name_of(DType dtype) { return std::string(row(dtype).name); }

}  // namespace tensometer
