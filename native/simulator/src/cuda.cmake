# The simulated CUDA driver (libcuda.so.1) and, on top of it, the runtime (libcudart.so.13).
#
# Names and layouts come from NVIDIA's headers, a build requirement (nvidia-cuda-runtime and
# nvidia-cuda-crt, of the CUDA version that torch is built for) that enters neither tree nor wheel.
execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
        "import glob, sys; print(next((f for p in sys.path for f in glob.glob(p + '/nvidia/cu13/include/cuda.h')), ''), end='')"
    OUTPUT_VARIABLE CUDA_HEADER)
if(NOT CUDA_HEADER)
    message(FATAL_ERROR
        "cuda.h not found: pip install 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*' into ${Python_EXECUTABLE}")
endif()
get_filename_component(CUDA_INCLUDE_DIR "${CUDA_HEADER}" DIRECTORY)

# A weak "not supported" for every function of a header.
function(add_unsupported header output)
    add_custom_command(
        OUTPUT "${output}"
        COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/src/cuda_unsupported.py"
            "${CUDA_INCLUDE_DIR}/${header}" "${output}"
        DEPENDS src/cuda_unsupported.py "${CUDA_INCLUDE_DIR}/${header}")
endfunction()

# Exactly the names of the version script are visible; the headers' declarations say nothing of it.
function(finish_cuda_library target version_script)
    target_include_directories(${target} SYSTEM PRIVATE "${CUDA_INCLUDE_DIR}")
    target_include_directories(${target} PRIVATE src)
    target_link_options(${target} PRIVATE
        "-Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/src/${version_script}"
        -static-libstdc++ -static-libgcc -Wl,-z,defs)
    set_target_properties(${target} PROPERTIES
        CXX_VISIBILITY_PRESET default
        LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/src/${version_script}")
    install(TARGETS ${target} LIBRARY DESTINATION ${SIMULATOR_LIBRARY_DIR} NAMELINK_SKIP)
endfunction()

set(DRIVER_UNSUPPORTED "${CMAKE_CURRENT_BINARY_DIR}/cuda_driver_unsupported.cpp")
add_unsupported(cuda.h "${DRIVER_UNSUPPORTED}")
add_library(cuda SHARED
    src/cuda_addresses.cpp
    src/cuda_context.cpp
    src/cuda_copy.cpp
    src/cuda_device.cpp
    src/cuda_entry.cpp
    src/cuda_memory.cpp
    src/cuda_pool.cpp
    src/cuda_stream.cpp
    src/cuda_visible.cpp
    src/cuda_vmm.cpp
    src/cuda_work.cpp
    "${DRIVER_UNSUPPORTED}")
target_link_libraries(cuda PRIVATE simulator_core)
set_target_properties(cuda PROPERTIES SOVERSION 1)
finish_cuda_library(cuda cuda_driver.map)

set(RUNTIME_UNSUPPORTED "${CMAKE_CURRENT_BINARY_DIR}/cuda_runtime_unsupported.cpp")
add_unsupported(cuda_runtime_api.h "${RUNTIME_UNSUPPORTED}")
add_library(cudart SHARED
    src/cuda_runtime_device.cpp
    src/cuda_runtime_launch.cpp
    src/cuda_runtime_memory.cpp
    src/cuda_runtime_stream.cpp
    "${RUNTIME_UNSUPPORTED}")
target_link_libraries(cudart PRIVATE cuda)
set_target_properties(cudart PROPERTIES SOVERSION 13 INSTALL_RPATH "$ORIGIN")
finish_cuda_library(cudart cuda_runtime.map)
