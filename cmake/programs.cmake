# Every program lies in bin/ of the build tree and looks for shared libraries beside itself first.
# With SWITCHYARD_BUNDLE that is where libsimdjson is, so bin/ can be copied to another machine.
function(switchyard_program target)
  set_target_properties(${target} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin
    BUILD_RPATH "$ORIGIN"
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  get_target_property(type simdjson::simdjson TYPE)
  if(SWITCHYARD_BUNDLE AND NOT type STREQUAL STATIC_LIBRARY)
    add_custom_command(TARGET ${target} POST_BUILD
      COMMAND ${CMAKE_COMMAND} -E copy_if_different $<TARGET_FILE:simdjson::simdjson>
        $<TARGET_FILE_DIR:${target}>/$<TARGET_SONAME_FILE_NAME:simdjson::simdjson>
      VERBATIM)
  endif()
endfunction()
