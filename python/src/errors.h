#pragma once

#include <string>

namespace switchyard::python {

/// Throws the exception of switchyard._errors that belongs to `status`, with the C API's sentence.
/// Needs the GIL.
void check(int status);

[[noreturn]] void raise_invalid(const std::string& text);

}  // namespace switchyard::python
