#include "checkpoint/matrix_reader.h"

#include <memory>

#include "base/check.h"
#include "checkpoint/matrix_load.h"
#include "formats/convert.h"

namespace switchyard::checkpoint {
void read_matrix(Reads& reads, const Projection& projection, const Slice& slice, ExpertMatrix& to) {
  const auto reader = std::make_shared<MatrixReader>(reads, projection, slice, to);
  reader->read();
  reads.finally([reader] {});  // the steps before this one point to it
}

void read_tensor(Reads& reads, const Leaf& leaf, DType dtype, const Shape& shape, Tensor& to) {
  to = Tensor(dtype, shape);
  const std::int64_t count = shape.elements();
  SWITCHYARD_ASSERT(leaf.shape.elements() == count);
  const DType stored = *dtype_of(leaf.type);
  Read read;
  read.shard = leaf.places.front().shard;
  read.begin = leaf.places.front().begin;
  read.row_bytes = read.stride = read.to_stride = leaf.bytes();
  if (stored == dtype) {
    read.to = to.as<std::byte>();
  } else if (dtype == DType::f32) {
    read.then = [=, &to](const std::byte* bytes) {
      formats::load_run<float>(stored, bytes, 0, count, to.as<float>());
    };
  } else {
    SWITCHYARD_ASSERT(dtype == DType::i32);
    read.then = [=, &to](const std::byte* bytes) {
      for (std::int64_t i = 0; i < count; ++i)
        to.as<std::int32_t>()[i] = static_cast<std::int32_t>(formats::load(stored, bytes, i));
    };
  }
  reads.add(std::move(read));
}

}  // namespace switchyard::checkpoint
