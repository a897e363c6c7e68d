# switchyard_embed(target ROOT folder FUNCTION name SOURCES file...): links into `target` a function
# `name` that returns the files (paths below ROOT) as a table {path, text}.
function(switchyard_embed target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ROOT;FUNCTION" "SOURCES")
  list(TRANSFORM arg_SOURCES PREPEND ${arg_ROOT}/ OUTPUT_VARIABLE paths)
  string(MAKE_C_IDENTIFIER ${arg_FUNCTION} name)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${target}_${name}.cpp)
  set(script ${PROJECT_SOURCE_DIR}/cmake/embed_sources.cmake)
  add_custom_command(
    OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DROOT=${arg_ROOT} "-DSOURCES=${arg_SOURCES}"
            -DFUNCTION=${arg_FUNCTION} -DOUT=${out} -P ${script}
    DEPENDS ${paths} ${script} VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
