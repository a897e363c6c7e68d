# Tests of the project itself rather than of its code.
find_package(Python3 COMPONENTS Interpreter REQUIRED)

add_test(NAME include_rules COMMAND Python3::Interpreter tools/check_includes.py
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
