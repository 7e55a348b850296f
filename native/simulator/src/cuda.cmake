# The simulated CUDA driver (libcuda.so.1) and, on top of it, the runtime that torch is built for:
# libcudart.so.13, or libcudart.so.12 for older torch.
#
# Names and layouts come from NVIDIA's headers, build requirements (nvidia-cuda-runtime,
# nvidia-cuda-crt, nvidia-cuda-runtime-cu12) that enter neither tree nor wheel.
function(find_cuda_headers variable place advice)
    execute_process(
        COMMAND "${Python_EXECUTABLE}" -c
            "import glob, sys; print(next((f for p in sys.path for f in glob.glob(p + '/nvidia/${place}/include/cuda.h')), ''), end='')"
        OUTPUT_VARIABLE header)
    if(NOT header)
        message(FATAL_ERROR "cuda.h not found: pip install ${advice} into ${Python_EXECUTABLE}")
    endif()
    get_filename_component(folder "${header}" DIRECTORY)
    set(${variable} "${folder}" PARENT_SCOPE)
endfunction()

find_cuda_headers(CUDA_INCLUDE_DIR cu13 "'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'")
find_cuda_headers(CUDA12_INCLUDE_DIR cuda_runtime "'nvidia-cuda-runtime-cu12==12.4.*'")

# A weak "not supported" for every function of a header.
function(add_unsupported header output)
    add_custom_command(
        OUTPUT "${output}"
        COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/src/cuda_unsupported.py"
            "${header}" "${output}"
        DEPENDS src/cuda_unsupported.py "${header}")
endfunction()

# Exactly the names of the version script are visible; the headers' declarations say nothing of it.
function(finish_cuda_library target version_script)
    target_include_directories(${target} SYSTEM PRIVATE ${ARGN})
    target_include_directories(${target} PRIVATE src)
    target_link_options(${target} PRIVATE
        "-Wl,--version-script=${version_script}"
        -static-libstdc++ -static-libgcc -Wl,-z,defs)
    set_target_properties(${target} PROPERTIES
        CXX_VISIBILITY_PRESET default
        LINK_DEPENDS "${version_script}")
    install(TARGETS ${target} LIBRARY DESTINATION ${SIMULATOR_LIBRARY_DIR} NAMELINK_SKIP)
endfunction()

set(DRIVER_UNSUPPORTED "${CMAKE_CURRENT_BINARY_DIR}/cuda_driver_unsupported.cpp")
add_unsupported("${CUDA_INCLUDE_DIR}/cuda.h" "${DRIVER_UNSUPPORTED}")
add_library(cuda SHARED
    src/cuda_addresses.cpp
    src/cuda_context.cpp
    src/cuda_copy.cpp
    src/cuda_device.cpp
    src/cuda_entry.cpp
    src/cuda_memory.cpp
    src/cuda_older_names.cpp
    src/cuda_pool.cpp
    src/cuda_stream.cpp
    src/cuda_visible.cpp
    src/cuda_vmm.cpp
    src/cuda_work.cpp
    "${DRIVER_UNSUPPORTED}")
target_link_libraries(cuda PRIVATE simulator_core)
set_target_properties(cuda PROPERTIES SOVERSION 1)
finish_cuda_library(cuda "${CMAKE_CURRENT_SOURCE_DIR}/src/cuda_driver.map" "${CUDA_INCLUDE_DIR}")

# The headers of 12 lack the compiler's own part (crt/), which those of 13 have.
function(add_cuda_runtime version)
    set(folder "${CMAKE_CURRENT_BINARY_DIR}/cudart${version}")
    list(GET ARGN 0 headers)
    add_unsupported("${headers}/cuda_runtime_api.h" "${folder}/unsupported.cpp")
    configure_file(src/cuda_runtime.map.in "${folder}/cuda_runtime.map" @ONLY)
    add_library(cudart${version} SHARED
        src/cuda_runtime_device.cpp
        src/cuda_runtime_launch.cpp
        src/cuda_runtime_memory.cpp
        src/cuda_runtime_stream.cpp
        "${folder}/unsupported.cpp")
    target_link_libraries(cudart${version} PRIVATE cuda)
    set_target_properties(cudart${version} PROPERTIES
        OUTPUT_NAME cudart
        SOVERSION ${version}
        LIBRARY_OUTPUT_DIRECTORY "${folder}"
        INSTALL_RPATH "$ORIGIN")
    finish_cuda_library(cudart${version} "${folder}/cuda_runtime.map" ${ARGN})
endfunction()

add_cuda_runtime(13 "${CUDA_INCLUDE_DIR}")
add_cuda_runtime(12 "${CUDA12_INCLUDE_DIR}" "${CUDA_INCLUDE_DIR}")
