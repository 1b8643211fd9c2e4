// Values to bytes and back, every length checked. For pickles: little-endian machines only, no promise across versions.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace tensometer {

class ByteWriter {
 public:
  template <class T>
  void value(const T& x) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&x), sizeof x);
  }
  template <class T, class Memory>
  void list(const std::vector<T, Memory>& items) {
    value(static_cast<std::uint64_t>(items.size()));
    bytes_.append(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T));
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(const std::string& bytes) : at_(bytes.data()), left_(bytes.size()) {}
  template <class T>
  T value() {
    T x;
    copy(&x, sizeof x);
    return x;
  }
  template <class T, class Memory>
  void list(std::vector<T, Memory>& items) {
    const auto size = value<std::uint64_t>();
    if (size > left_ / sizeof(T)) fail();
    items.resize(size);
    copy(items.data(), size * sizeof(T));
  }
  void end() const {
    if (left_ != 0) fail();
  }
  [[noreturn]] static void fail() { throw std::invalid_argument("state: not the bytes that this version pickled"); }

 private:
  void copy(void* to, std::size_t size) {
    if (size > left_) fail();
    if (size != 0) std::memcpy(to, at_, size);
    at_ += size;
    left_ -= size;
  }
  const char* at_;
  std::size_t left_;
};

}  // namespace tensometer
