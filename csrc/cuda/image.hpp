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

}  // namespace tensometer::cuda
