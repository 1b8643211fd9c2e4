# The kernels' images, compiled where there is an nvcc and embedded in a library; without one the library has none, and says
# so at run time. CUDA is no language of this project, so that configuring it never needs CUDA.
set(cuda_architectures 75 80 86 89 90 100 120)
# Those whose images are newer than these are compiled by the driver, from PTX for this one.
set(cuda_ptx 75)
set(cuda_options -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr)

# embed_cuda_image(target): compiles csrc/cuda/image.cpp into it.
function(embed_cuda_image target)
  set(source ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/image.cpp)
  target_sources(${target} PRIVATE ${source})
  if(NOT TENSOMETER_CUDA)
    message(STATUS "CUDA kernels: left out (TENSOMETER_CUDA is OFF)")
    return()
  endif()
  find_program(TENSOMETER_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(NOT TENSOMETER_NVCC)
    message(STATUS "CUDA kernels: left out, no nvcc found")
    return()
  endif()
  execute_process(COMMAND ${TENSOMETER_NVCC} --list-gpu-code OUTPUT_VARIABLE known ERROR_VARIABLE trouble
                  RESULT_VARIABLE failed)
  set(words "")
  set(codes "")
  foreach(architecture ${cuda_architectures})
    if("${known}" MATCHES "sm_${architecture}\n")
      list(APPEND codes -gencode arch=compute_${architecture},code=sm_${architecture})
      string(APPEND words "sm_${architecture} ")
    endif()
  endforeach()
  if(failed OR NOT words)
    message(WARNING "CUDA kernels: left out, ${TENSOMETER_NVCC} does not compile for any of ${cuda_architectures}: ${trouble}")
    return()
  endif()
  string(APPEND words "compute_${cuda_ptx}")
  execute_process(COMMAND ${TENSOMETER_NVCC} --version OUTPUT_VARIABLE version ERROR_QUIET)
  if("${version}" MATCHES "release ([0-9]+)[.]([0-9]+)")
    math(EXPR toolkit "${CMAKE_MATCH_1} * 1000 + ${CMAKE_MATCH_2} * 10")
  else()
    set(toolkit 0)
  endif()
  set(options ${cuda_options} ${codes} -gencode arch=compute_${cuda_ptx},code=compute_${cuda_ptx} --compress-mode=size)
  # An old nvcc, or one that does not know the host's compiler, leaves the kernels out, but not the package.
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/probe)
  file(WRITE ${probe}.cu "#include <bit>\n__global__ void probe() {}\n")
  execute_process(COMMAND ${TENSOMETER_NVCC} -fatbin ${options} -o ${probe}.fatbin ${probe}.cu
                  OUTPUT_QUIET ERROR_VARIABLE trouble RESULT_VARIABLE failed)
  if(failed)
    message(WARNING "CUDA kernels: left out, ${TENSOMETER_NVCC} does not compile them (12.8 or later does): ${trouble}")
    return()
  endif()
  message(STATUS "CUDA kernels: ${words}, by ${TENSOMETER_NVCC}")
  set(image ${CMAKE_CURRENT_BINARY_DIR}/kernels.fatbin)
  set(kernels ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernels.cu)
  add_custom_command(
    OUTPUT ${image}
    COMMAND ${TENSOMETER_NVCC} -fatbin ${options} --threads 0 -I ${PROJECT_SOURCE_DIR}/csrc -MD -MF ${image}.d -o ${image} ${kernels}
    DEPENDS ${kernels}
    DEPFILE ${image}.d
    COMMENT "Compiling the CUDA kernels"
    VERBATIM)
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${image} COMPILE_DEFINITIONS
    "TENSOMETER_IMAGE_FILE=\"${image}\";TENSOMETER_IMAGE_WORDS=\"${words}\";TENSOMETER_IMAGE_TOOLKIT=${toolkit}")
endfunction()
