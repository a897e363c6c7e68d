# A second process for the tests of src/tune: it appends, is killed, or is what a Worker asks.
add_executable(switchyard_tune_process tests/tune/process.cpp)
target_include_directories(switchyard_tune_process PRIVATE src .)
target_link_libraries(switchyard_tune_process PRIVATE switchyard fmt::fmt-header-only)
switchyard_warnings(switchyard_tune_process)
switchyard_program(switchyard_tune_process)
add_dependencies(switchyard_tests switchyard_tune_process)
