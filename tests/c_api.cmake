# The C API as a C program sees it: compiled as C11, linked with the library alone.
enable_language(C)
add_executable(switchyard_c_api_test tests/c_api/c_api_test.c)
set_target_properties(switchyard_c_api_test PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON
  C_EXTENSIONS OFF LINKER_LANGUAGE CXX)
target_link_libraries(switchyard_c_api_test PRIVATE switchyard)
switchyard_warnings(switchyard_c_api_test)
switchyard_program(switchyard_c_api_test)
add_test(NAME c_api COMMAND switchyard_c_api_test ${PROJECT_SOURCE_DIR}/tests/fixtures/qwen3_moe_ct_nvfp4)
