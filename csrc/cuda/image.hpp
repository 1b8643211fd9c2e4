// The compiled kernels that this build carries.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace tensometer::cuda {

// A fatbin with an image for each architecture in image_words() ("sm_90" is one for that architecture, "compute_75" is PTX that
// the driver compiles for any from there on). Empty if this build was made without nvcc. TENSOMETER_CUDA_IMAGE names a file
// to take instead; std::runtime_error if it cannot be read.
std::span<const std::byte> image();
std::string_view image_words();
// The version of CUDA that compiled it, 1000 for each major and 10 for each minor one, as a driver tells its own; 0 if that is not known.
int image_toolkit();

}  // namespace tensometer::cuda
