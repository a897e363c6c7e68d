# find_package(switchyard) and pkg-config, for static use; both lead to simdjson, which our index
# reader needs at link time.
include(CMakePackageConfigHelpers)

set(switchyard_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/switchyard)
install(TARGETS switchyard EXPORT switchyard_targets FILE_SET HEADERS)
install(EXPORT switchyard_targets NAMESPACE switchyard:: DESTINATION ${switchyard_cmake_dir})
configure_package_config_file(cmake/switchyard-config.cmake.in switchyard-config.cmake
  INSTALL_DESTINATION ${switchyard_cmake_dir})
write_basic_package_version_file(switchyard-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/switchyard-config.cmake
  ${PROJECT_BINARY_DIR}/switchyard-config-version.cmake
  DESTINATION ${switchyard_cmake_dir})

file(RELATIVE_PATH switchyard_prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/switchyard.pc.in switchyard.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/switchyard.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(SWITCHYARD_BUNDLE)
  install(FILES $<TARGET_FILE:simdjson::simdjson>
    RENAME $<TARGET_SONAME_FILE_NAME:simdjson::simdjson> DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
