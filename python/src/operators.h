#pragma once

#include <nanobind/nanobind.h>

namespace switchyard::python {

/// What switchyard/torch.py needs of the module.
void bind_operators(nanobind::module_& m);

}  // namespace switchyard::python
