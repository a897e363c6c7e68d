#pragma once

#include "checkpoint/schemes.h"

namespace switchyard::checkpoint {

/// Reads from the scales' shape how many rows and columns one of them covers.
/// Throws InvalidArgument if the shape does not follow from the matrix's.
void set_scale_block(const LayerTensors& layer, const QuantConfig& quant, StoredMatrix& matrix);

/// Checks the shapes of global scales, zero points, groups and input factors.
void check_other_shapes(const LayerTensors& layer, const StoredMatrix& matrix);

}  // namespace switchyard::checkpoint
