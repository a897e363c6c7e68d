# Writes OUT: a table {path, text} of SOURCES (relative to ROOT), returned by FUNCTION, which is
# qualified by its namespace. Run with cmake -P.
string(REGEX MATCH "^(.*)::([^:]+)$" _ "${FUNCTION}")
set(namespace "${CMAKE_MATCH_1}")
set(name "${CMAKE_MATCH_2}")
list(LENGTH SOURCES count)
set(entries "")
foreach(source IN LISTS SOURCES)
  file(READ "${ROOT}/${source}" text)
  string(FIND "${text}" ")kernel\"" clash)
  if(NOT clash EQUAL -1)
    message(FATAL_ERROR "${source}: may not contain the delimiter of its raw string")
  endif()
  string(APPEND entries "    {\"${source}\", R\"kernel(${text})kernel\"},\n")
endforeach()
file(WRITE "${OUT}" "\
// Made by cmake/embed_sources.cmake.
#include <array>

#include \"jit/sources.h\"

namespace ${namespace} {

std::span<const jit::EmbeddedSource> ${name}() {
  static constexpr std::array<jit::EmbeddedSource, ${count}> kSources = {{
${entries}  }};
  return kSources;
}

}  // namespace ${namespace}
")
