# What the tests of src/jit and src/cuda need besides their sources.

# The toolkit's header, only to hold src/cuda/api.h against it.
find_path(SWITCHYARD_CUDA_INCLUDE_DIR cuda.h PATHS /usr/local/cuda/include)
if(SWITCHYARD_CUDA_INCLUDE_DIR)
  set_source_files_properties(tests/cuda/api_test.cpp PROPERTIES
    INCLUDE_DIRECTORIES ${SWITCHYARD_CUDA_INCLUDE_DIR})
endif()

# A second process for the race for one cache folder.
add_executable(switchyard_jit_process tests/jit/process.cpp)
target_include_directories(switchyard_jit_process PRIVATE src .)
target_link_libraries(switchyard_jit_process PRIVATE switchyard fmt::fmt-header-only)
switchyard_warnings(switchyard_jit_process)
switchyard_program(switchyard_jit_process)
add_dependencies(switchyard_tests switchyard_jit_process)

foreach(target switchyard_tests switchyard_jit_process)
  switchyard_embed(${target} ROOT ${PROJECT_SOURCE_DIR}/tests/jit/kernels
    FUNCTION switchyard::jit::test_sources
    SOURCES scale/shared.cuh scale/kernel.cuh stack/kernel.cuh tile/kernel.cuh)
endforeach()
