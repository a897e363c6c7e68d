#include "bench/ceilings.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "switchyard/tensor.h"

namespace switchyard::bench {
namespace {

/// Seconds until `threads` threads have run body(thread), the fastest of `passes`.
template <class Body>
double fastest(int threads, int passes, Body body) {
  double best = 1e30;
  for (int pass = 0; pass < passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int i = 1; i < threads; ++i) workers.emplace_back(body, i);
    body(0);
    for (std::thread& worker : workers) worker.join();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

std::atomic<std::uint64_t> sink = 0;  // keeps the loops alive

using Vector = float __attribute__((vector_size(32)));

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]]
#endif
float multiply_adds(std::int64_t rounds, float seed) {
  // 4 cycles of latency, 2 a cycle, and some. Unrolled and never referred to, they stay in
  // registers: through memory the loop is four times slower.
  constexpr int kChains = 12;
  Vector sums[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + static_cast<float>(i) * seed;
  const Vector factor = Vector{} + 0.999F, term = Vector{} + seed;
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * factor + term;
  }
  Vector total{};
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) total += sums[i];
  return total[0] + total[5];
}

}  // namespace

double read_ceiling_gbs(int threads) {
  constexpr std::size_t kWords = std::size_t{64} << 20;            // 512 MiB
  Tensor memory(DType::i64, {static_cast<std::int64_t>(kWords)});  // in the pages of weights
  std::fill_n(memory.as<std::uint64_t>(), kWords, 1);
  const std::size_t part = kWords / static_cast<std::size_t>(threads);
  const double seconds = fastest(threads, 5, [&](int thread) {
    const std::uint64_t* words =
        memory.as<std::uint64_t>() + static_cast<std::size_t>(thread) * part;
    std::uint64_t sums[8] = {};
    for (std::size_t i = 0; i + 8 <= part; i += 8)
      for (std::size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
    for (const std::uint64_t sum : sums) sink += sum;
  });
  return static_cast<double>(part * static_cast<std::size_t>(threads) * 8) / seconds * 1e-9;
}

double flop_ceiling_gflops(int threads) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
#endif
  constexpr std::int64_t kRounds = 5'000'000;
  const double seconds = fastest(threads, 10, [&](int thread) {
    sink += static_cast<std::uint64_t>(multiply_adds(kRounds, static_cast<float>(thread + 1)));
  });
  return static_cast<double>(kRounds) * 12 * 16 * threads / seconds * 1e-9;
}

}  // namespace switchyard::bench
