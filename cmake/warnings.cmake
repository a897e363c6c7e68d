# The warning set of every target of ours; errors in the presets that developers and CI use.
option(SWITCHYARD_WERROR "Treat warnings as errors" OFF)

function(switchyard_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow -Wundef)
  if(SWITCHYARD_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
