# Tests of the project itself rather than of its code.
find_package(Python3 COMPONENTS Interpreter REQUIRED)

add_test(NAME include_rules COMMAND Python3::Interpreter tools/check_includes.py
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
add_test(NAME docs COMMAND Python3::Interpreter tools/check_docs.py
  --switchyard $<TARGET_FILE:switchyard_cli> WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
add_test(NAME cli COMMAND Python3::Interpreter tests/cli/cli_test.py
  $<TARGET_FILE:switchyard_cli> WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})

add_test(NAME report COMMAND Python3::Interpreter tests/cli/report_test.py
  $<TARGET_FILE:switchyard_cli> WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})

# A sanitized library needs the sanitizer in its users too, which is not what users do.
if(NOT SWITCHYARD_SANITIZE)
  add_test(NAME consumer COMMAND ${CMAKE_COMMAND}
    -DBUILD=${PROJECT_BINARY_DIR} -DSOURCE=${PROJECT_SOURCE_DIR}/tests/consumer
    -DWORK=${PROJECT_BINARY_DIR}/consumer -DCXX=${CMAKE_CXX_COMPILER} -DGENERATOR=${CMAKE_GENERATOR}
    -DLIBDIR=${CMAKE_INSTALL_LIBDIR} -DVERSION=${PROJECT_VERSION}
    -P ${PROJECT_SOURCE_DIR}/tests/consumer/consumer_test.cmake)
endif()
