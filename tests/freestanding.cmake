# Every header that kernels share compiles alone, without a standard library.
set(freestanding_headers
  device/types.cuh
  formats/bf16.cuh
  formats/e8m0.cuh
  formats/fp16.cuh
  formats/fp4.cuh
  formats/fp8.cuh
  formats/fp8_block.cuh
  formats/int4.cuh
  formats/minifloat.cuh
  formats/mxfp4.cuh
  formats/mxfp8.cuh
  formats/nvfp4.cuh
  formats/scale_layout.cuh
  ops/repack/shared.cuh
)
set(freestanding_sources)
foreach(header IN LISTS freestanding_headers)
  string(MAKE_C_IDENTIFIER ${header} name)
  set(source ${PROJECT_BINARY_DIR}/freestanding/${name}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"${header}\"\n")
  list(APPEND freestanding_sources ${source})
endforeach()
add_library(switchyard_freestanding OBJECT ${freestanding_sources})
target_include_directories(switchyard_freestanding PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_compile_options(switchyard_freestanding PRIVATE -ffreestanding -nostdinc)
switchyard_warnings(switchyard_freestanding)
