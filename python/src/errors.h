#pragma once

#include <string>

namespace switchyard::python {

/// Throws the exception of switchyard._errors that belongs to `status`, with the C API's sentence.
/// Needs the GIL, as the others.
void check(int status);

/// The same with a sentence of the module's own.
[[noreturn]] void raise(int status, const std::string& text);
[[noreturn]] void raise_invalid(const std::string& text);

}  // namespace switchyard::python
