#include "ops/repack/upload.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/math.h"
#include "base/thread_pool.h"
#include "ops/repack/fp4.cuh"
#include "ops/repack/plan.h"

namespace switchyard::repack {
namespace {

constexpr std::size_t kSlice = std::size_t{8} << 20, kPiece = std::size_t{512} << 10;

std::size_t row_bytes(const Matrix& m) {
  return static_cast<std::size_t>(m.out) * static_cast<std::size_t>(m.in) * sizeof(uint16);
}

/// Host memory -> device through two pinned buffers: one is filled while the other is copied from.
/// Several threads fill: one alone is slower than the bus.
class Bounce {
 public:
  explicit Bounce(const cuda::Context& context, std::size_t largest)
      : slots_{{context, largest}, {context, largest}}, pool_(std::min(usable_cores(), 8)) {}

  void copy(std::byte* to, std::span<const std::byte> from, cuda::CUstream stream) {
    while (!from.empty()) {
      Slot& slot = slots_[turn_++ % 2];
      const auto part = from.first(std::min(from.size(), slot.memory.bytes()));
      slot.copied.synchronize();
      fill(slot.memory.data(), part);
      cuda::copy_to_device(to, slot.memory.data(), part.size(), stream);
      slot.copied.record(stream);
      to += part.size();
      from = from.subspan(part.size());
    }
  }

 private:
  struct Slot {
    Slot(const cuda::Context& context, std::size_t largest)
        : memory(context, std::min(largest, kSlice)), copied(context) {}
    cuda::PinnedBuffer memory;
    cuda::Event copied;
  };

  void fill(std::byte* to, std::span<const std::byte> from) {
    const auto pieces = static_cast<std::int64_t>(ceil_div(from.size(), kPiece));
    pool_.parallel_for(pieces, [&](std::int64_t i, int) {
      const std::size_t begin = static_cast<std::size_t>(i) * kPiece;
      std::memcpy(to + begin, from.data() + begin, std::min(kPiece, from.size() - begin));
    });
  }

  Slot slots_[2];
  unsigned turn_ = 0;
  ThreadPool pool_;
};

jit::Kernel kernel(const Gpu& gpu, Direction direction) {
  return gpu.loader.kernel(program({.direction = direction}, gpu.context.info().sm));
}

Args arguments(const Matrix& matrix, const std::byte* rows, const std::byte* tiles) {
  // The kernel writes one of the two, and its direction says which.
  return {.rows = reinterpret_cast<uint16*>(const_cast<std::byte*>(rows)),
          .tiles = reinterpret_cast<Chunk*>(const_cast<std::byte*>(tiles)),
          .matrix = matrix};
}

jit::Launch fp4_launch(const Gpu& gpu, Direction direction, Weights weights, const Matrix& matrix,
                       int experts) {
  return {.kernel = gpu.loader.kernel(fp4_program(weights, direction, gpu.context.info().sm)),
          .grid = {static_cast<unsigned>(tile_count(matrix)), static_cast<unsigned>(experts)},
          .block = {kFp4Threads},
          .cluster = {},
          .smem_bytes = 0,
          .overlap_previous = false};
}

Fp4Args arguments(const Matrix& matrix, const Fp4Matrices& rows, std::byte* tiles) {
  return {.rows = {.codes = reinterpret_cast<uint8*>(rows.codes),
                   .scales = reinterpret_cast<uint8*>(rows.scales)},
          .tiles = reinterpret_cast<uint8*>(tiles),
          .matrix = matrix,
          .shift = rows.shift};
}

}  // namespace

void enqueue_pack(const Gpu& gpu, const Matrix& matrix, int experts, const std::byte* rows,
                  std::byte* tiles) {
  const cuda::Current current(gpu.context);
  jit::enqueue(launch(matrix, experts, kernel(gpu, Direction::pack)),
               arguments(matrix, rows, tiles), gpu.stream.get());
}

void enqueue_unpack(const Gpu& gpu, const Matrix& matrix, int experts, const std::byte* tiles,
                    std::byte* rows) {
  const cuda::Current current(gpu.context);
  jit::enqueue(launch(matrix, experts, kernel(gpu, Direction::unpack)),
               arguments(matrix, rows, tiles), gpu.stream.get());
}

void enqueue_fp4(const Gpu& gpu, Direction direction, const Matrix& matrix, int experts,
                 const Fp4Matrices& rows, std::byte* tiles) {
  const cuda::Current current(gpu.context);
  jit::enqueue(fp4_launch(gpu, direction, rows.weights, matrix, experts),
               arguments(matrix, rows, tiles), gpu.stream.get());
}

void enqueue_norms(const Gpu& gpu, const Matrix& matrix, int experts, const Norms& kind,
                   const std::byte* tiles, float* norms) {
  const cuda::Current current(gpu.context);
  jit::enqueue(jit::Launch{.kernel = gpu.loader.kernel(
                               norm_program(kind.half, kind.weights, gpu.context.info().sm)),
                           .grid = {static_cast<unsigned>(ceil_div(matrix.out, kTileRows)),
                                    static_cast<unsigned>(experts)},
                           .block = {static_cast<unsigned>(
                               kind.weights == Weights::half ? Config::kThreads : kFp4Threads)},
                           .cluster = {},
                           .smem_bytes = 0,
                           .overlap_previous = false},
               NormArgs{.tiles = reinterpret_cast<const Chunk*>(tiles),
                        .norms = reinterpret_cast<uint32*>(norms),
                        .factors = kind.factors,
                        .column_tiles = column_tiles(matrix)},
               gpu.stream.get());
}

void upload(const Gpu& gpu, const Matrix& matrix, int experts, std::span<const std::byte> rows,
            std::byte* tiles) {
  const std::size_t expert_bytes = row_bytes(matrix);
  SWITCHYARD_ASSERT(rows.size() == expert_bytes * static_cast<std::size_t>(experts));
  if (rows.empty()) return;
  const cuda::Current current(gpu.context);
  const jit::Launch pack = launch(matrix, 1, kernel(gpu, Direction::pack));
  Bounce bounce(gpu.context, expert_bytes);
  // Freed first, which waits for the device: should something below throw, no copy is under way
  // when the pinned memory goes.
  const cuda::DeviceBuffer staging(gpu.context, expert_bytes);
  for (; !rows.empty(); rows = rows.subspan(expert_bytes), tiles += tiled_bytes(matrix)) {
    bounce.copy(staging.data(), rows.first(expert_bytes), gpu.stream.get());
    jit::enqueue(pack, arguments(matrix, staging.data(), tiles), gpu.stream.get());
  }
  gpu.stream.synchronize();
}

void upload_fp4(const Gpu& gpu, const Matrix& matrix, int experts, Fp4Weights from,
                std::byte* tiles) {
  const auto elements = static_cast<std::size_t>(matrix.out) * static_cast<std::size_t>(matrix.in);
  const std::size_t code_bytes = elements / 2,
                    scale_bytes = elements / static_cast<std::size_t>(fp4_block(from.weights));
  SWITCHYARD_ASSERT(from.codes.size() == code_bytes * static_cast<std::size_t>(experts));
  SWITCHYARD_ASSERT(from.scales.size() == scale_bytes * static_cast<std::size_t>(experts));
  if (from.codes.empty()) return;
  const cuda::Current current(gpu.context);
  const jit::Launch pack = fp4_launch(gpu, Direction::pack, from.weights, matrix, 1);
  Bounce bounce(gpu.context, code_bytes);
  const cuda::DeviceBuffer staging(gpu.context, code_bytes + scale_bytes);
  const Fp4Matrices staged = {.weights = from.weights,
                              .codes = staging.data(),
                              .scales = staging.data() + code_bytes,
                              .shift = from.shift};
  for (; !from.codes.empty(); from.codes = from.codes.subspan(code_bytes),
                              from.scales = from.scales.subspan(scale_bytes)) {
    bounce.copy(staged.codes, from.codes.first(code_bytes), gpu.stream.get());
    bounce.copy(staged.scales, from.scales.first(scale_bytes), gpu.stream.get());
    jit::enqueue(pack, arguments(matrix, staged, tiles), gpu.stream.get());
    tiles += static_cast<std::ptrdiff_t>(tile_count(matrix)) * device::tile_bytes(from.weights);
  }
  gpu.stream.synchronize();
}

cuda::DeviceBuffer upload(const Gpu& gpu, const Matrix& matrix, int experts,
                          std::span<const std::byte> rows) {
  cuda::DeviceBuffer packed(gpu.context, static_cast<std::size_t>(tiled_bytes(matrix)) *
                                             static_cast<std::size_t>(experts));
  upload(gpu, matrix, experts, rows, packed.data());
  return packed;
}

}  // namespace switchyard::repack
