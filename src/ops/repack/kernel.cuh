// 16-bit weights of E experts, [E, out, in] row-major <-> tiles, exactly.
//
//   grid   {tiles of one expert, E}   block  256: a tile, 4 chunks of 16 bytes a thread
//   reads and writes each byte once, 128 bytes of a row at a time; limited by memory
//
// Rows that are not 16-byte aligned are read and written element by element.
#pragma once

#include "ops/repack/shared.cuh"

namespace switchyard::repack {

__device__ inline Chunk load_elements(const uint16* from, int count) {
  Chunk chunk = {};
#pragma unroll
  for (int i = 0; i < kChunk; ++i)
    if (i < count) chunk.words[i / 2] |= static_cast<uint32>(from[i]) << (i % 2 * 16);
  return chunk;
}

__device__ inline void store_elements(const Chunk& chunk, uint16* to, int count) {
#pragma unroll
  for (int i = 0; i < kChunk; ++i)
    if (i < count) to[i] = static_cast<uint16>(chunk.words[i / 2] >> (i % 2 * 16));
}

/// A tile's chunks, from or to `rows`, whose accesses are 16 bytes wide if `kAligned`.
template <Direction kDirection, bool kAligned>
__device__ inline void move_tile(const Matrix& m, uint16* rows, Chunk* tile) {
  Chunk chunks[Config::kPerThread];  // every load before the first store
#pragma unroll
  for (int i = 0; i < Config::kPerThread; ++i) {
    const uint32 place = threadIdx.x + i * Config::kThreads;
    const Run run = source_run(m, blockIdx.x, place);
    if constexpr (kDirection == Direction::unpack)
      chunks[i] = tile[place];
    else if constexpr (kAligned)
      chunks[i] = run.count ? *reinterpret_cast<const Chunk*>(rows + run.first) : Chunk{};
    else
      chunks[i] = load_elements(rows + run.first, run.count);
  }
#pragma unroll
  for (int i = 0; i < Config::kPerThread; ++i) {
    const uint32 place = threadIdx.x + i * Config::kThreads;
    const Run run = source_run(m, blockIdx.x, place);
    if constexpr (kDirection == Direction::pack)
      tile[place] = chunks[i];
    else if constexpr (!kAligned)
      store_elements(chunks[i], rows + run.first, run.count);
    else if (run.count)
      *reinterpret_cast<Chunk*>(rows + run.first) = chunks[i];
  }
}

template <Config kConfig>
__global__ void __launch_bounds__(Config::kThreads) kernel(const __grid_constant__ Args args) {
  const Matrix& m = args.matrix;
  const int64 expert = blockIdx.y;
  uint16* rows = args.rows + expert * m.out * m.in;
  Chunk* tile = args.tiles + (expert * gridDim.x + blockIdx.x) * kTileChunks;
  if (m.in % kChunk == 0 && reinterpret_cast<uint64>(rows) % sizeof(Chunk) == 0)
    move_tile<kConfig.direction, true>(m, rows, tile);
  else
    move_tile<kConfig.direction, false>(m, rows, tile);
}

}  // namespace switchyard::repack
