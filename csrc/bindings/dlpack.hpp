// The parts of the DLPack C ABI (dmlc/dlpack, version 1.x) that reading a tensor needs, written from its specification.
#pragma once

#include <cstdint>

namespace tensometer::dlpack {

struct Device {
  std::int32_t type, id;
};
inline constexpr std::int32_t cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13;

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null for C order
  std::uint64_t byte_offset;
};

struct Version {
  std::uint32_t major, minor;
};

// DLManagedTensorVersioned, as far as its tensor. (The unversioned DLManagedTensor begins with the tensor itself.)
struct ManagedVersioned {
  Version version;
  void* manager_ctx;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

// DLPackExchangeAPI: what a tensor type offers so that C code may look at its tensors without building a capsule.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*tensor_from_object)(void* object, Tensor* out);  // borrowed; may be null
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

}  // namespace tensometer::dlpack
