#pragma once

#include "checkpoint/projection.h"
#include "checkpoint/reads.h"
#include "switchyard/weights.h"

namespace switchyard::checkpoint {

/// Allocates `to` and collects the reads that fill it with a slice of the projection.
/// `to` must stay where it is until the reads were run.
void read_matrix(Reads& reads, const Projection& projection, const Slice& slice, ExpertMatrix& to);

/// A tensor that is not an expert's, as `dtype`; its extents become `shape`.
void read_tensor(Reads& reads, const Leaf& leaf, DType dtype, const Shape& shape, Tensor& to);

}  // namespace switchyard::checkpoint
