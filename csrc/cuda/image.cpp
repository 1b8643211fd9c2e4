#include "cuda/image.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef TENSOMETER_IMAGE_FILE
// Assemblers put a file where it is wanted; as an array in C++ it would take the compiler longer than the kernels.
asm(R"(
  .section .rodata
  .balign 16
  .globl tensometer_image_begin
  .hidden tensometer_image_begin
tensometer_image_begin:
  .incbin ")" TENSOMETER_IMAGE_FILE R"("
  .globl tensometer_image_end
  .hidden tensometer_image_end
tensometer_image_end:
  .byte 0
  .previous
)");
extern "C" __attribute__((visibility("hidden"))) const std::byte tensometer_image_begin[], tensometer_image_end[];
#endif

namespace tensometer::cuda {
namespace {

// Read once: a driver may look at an image for as long as a module of it is loaded.
const std::vector<char>& named_image(const std::string& path) {
  static const std::vector<char> image = [&] {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (bytes.empty()) throw std::runtime_error("cuda: TENSOMETER_CUDA_IMAGE: " + path + " is empty or no file");
    bytes.push_back('\0');
    return bytes;
  }();
  return image;
}

const char* named() {
  const char* path = std::getenv("TENSOMETER_CUDA_IMAGE");
  return path != nullptr && *path != '\0' ? path : nullptr;
}

}  // namespace

std::span<const std::byte> image() {
  if (const char* path = named()) return std::as_bytes(std::span(named_image(path)));
#ifdef TENSOMETER_IMAGE_FILE
  return {tensometer_image_begin, tensometer_image_end};
#else
  return {};
#endif
}

std::string_view image_words() {
  if (const char* path = named()) return path;
#ifdef TENSOMETER_IMAGE_FILE
  return TENSOMETER_IMAGE_WORDS;
#else
  return "";
#endif
}

int image_toolkit() {
#ifdef TENSOMETER_IMAGE_FILE
  if (named() == nullptr) return TENSOMETER_IMAGE_TOOLKIT;
#endif
  return 0;
}

}  // namespace tensometer::cuda
