// Packing and unpacking on a GPU against the host's; skipped where there is none. That the kernels
// compile to what they should is tested everywhere NVRTC is.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <random>

#include "cuda/driver.h"
#include "jit/nvrtc.h"
#include "ops/repack/fp4.cuh"
#include "ops/repack/plan.h"
#include "ops/repack/upload.h"

namespace switchyard::repack {
namespace {

using Elements = std::vector<std::uint16_t>;

jit::CacheOptions in_memory() {
  jit::CacheOptions options;
  options.directory.clear();  // a test leaves nothing behind
  return options;
}

Elements random_elements(std::size_t count) {
  std::mt19937 random(static_cast<unsigned>(count));
  Elements elements(count);
  for (std::uint16_t& element : elements) element = static_cast<std::uint16_t>(random());
  return elements;
}

std::size_t row_elements(const Matrix& m) {
  return static_cast<std::size_t>(m.out) * static_cast<std::size_t>(m.in);
}
std::size_t tile_elements(const Matrix& m) {
  return static_cast<std::size_t>(tiled_bytes(m)) / sizeof(std::uint16_t);
}

/// The host's tiles of `experts` matrices.
Elements packed(const Matrix& m, int experts, const Elements& rows) {
  Elements tiles(tile_elements(m) * static_cast<std::size_t>(experts));
  for (std::size_t e = 0; e < static_cast<std::size_t>(experts); ++e)
    pack(m, std::span(rows).subspan(e * row_elements(m), row_elements(m)),
         std::span(tiles).subspan(e * tile_elements(m), tile_elements(m)));
  return tiles;
}

class RepackGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto declines = cuda::driver_declines()) GTEST_SKIP() << *declines;
    if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
    context_ = cuda::Context::open(0);
    current_.emplace(*context_);
    stream_.emplace(*context_);
    loader_.emplace(*context_, std::make_shared<jit::Cache>(in_memory()));
  }

  Gpu gpu() { return {*context_, *stream_, *loader_}; }

  cuda::DeviceBuffer poisoned(std::size_t bytes) const {
    cuda::DeviceBuffer buffer(*context_, bytes);
    cuda::fill(buffer.data(), 0xd5, bytes, stream_->get());
    return buffer;
  }

  Elements read(const std::byte* device, std::size_t count) const {
    Elements host(count);
    cuda::copy_to_host(host.data(), device, count * 2, stream_->get());
    stream_->synchronize();
    return host;
  }

  /// Packs and unpacks `experts` matrices that begin `offset` bytes into a buffer, with a guard
  /// behind whatever is written.
  void round_trip(const Matrix& m, int experts, std::size_t offset) {
    constexpr std::size_t kGuard = 256;
    const Elements poison(kGuard / 2, 0xd5d5);
    const Elements rows = random_elements(row_elements(m) * static_cast<std::size_t>(experts));
    const Elements expected = packed(m, experts, rows);
    const cuda::DeviceBuffer in = poisoned(rows.size() * 2 + offset);
    cuda::copy_to_device(in.data() + offset, rows.data(), rows.size() * 2, stream_->get());
    const cuda::DeviceBuffer tiles = poisoned(expected.size() * 2 + kGuard);
    enqueue_pack(gpu(), m, experts, in.data() + offset, tiles.data());
    EXPECT_EQ(read(tiles.data(), expected.size()), expected);
    EXPECT_EQ(read(tiles.data() + expected.size() * 2, poison.size()), poison);

    const cuda::DeviceBuffer out = poisoned(rows.size() * 2 + offset + kGuard);
    enqueue_unpack(gpu(), m, experts, tiles.data(), out.data() + offset);
    EXPECT_EQ(read(out.data() + offset, rows.size()), rows);
    EXPECT_EQ(read(out.data() + offset + rows.size() * 2, poison.size()), poison);
  }

  std::vector<uint8> bytes(const std::byte* device, std::size_t count) const {
    std::vector<uint8> host(count);
    cuda::copy_to_host(host.data(), device, count, stream_->get());
    stream_->synchronize();
    return host;
  }

  /// Four-bit weights of `experts` matrices there and back; the tiles are the host's, and nothing
  /// is written behind them or behind the rows.
  template <Weights kWeights>
  void fp4_round_trip(const Matrix& m, int experts) {
    constexpr int kShift = kWeights == Weights::mxfp4 ? 3 : 0;
    constexpr std::size_t kGuard = 256;
    constexpr auto kTile = static_cast<std::size_t>(device::tile_bytes(kWeights));
    const std::vector<uint8> poison(kGuard, 0xd5);
    const auto count = static_cast<std::size_t>(experts);
    std::mt19937 random(3);
    std::vector<uint8> codes(row_elements(m) / 2 * count);
    std::vector<uint8> scales(row_elements(m) / fp4_block(kWeights) * count);
    for (uint8& c : codes) c = static_cast<uint8>(random());
    for (uint8& s : scales)
      s = static_cast<uint8>(kWeights == Weights::nvfp4 ? random() % 0x7f : random());
    for (std::size_t i = 0; i < scales.size(); i += 5) scales[i] = 0;

    const auto tile_total = static_cast<std::size_t>(tile_count(m)) * count;
    std::vector<uint8> expected(tile_total * kTile);
    for (std::size_t t = 0; t < tile_total; ++t) {
      const std::size_t e = t / static_cast<std::size_t>(tile_count(m));
      const std::size_t first = e * row_elements(m);
      const int tile = static_cast<int>(t % static_cast<std::size_t>(tile_count(m)));
      for (int thread = 0; thread < kFp4Threads; ++thread)
        pack_fp4<kWeights>(m,
                           {codes.data() + first / 2, scales.data() + first / fp4_block(kWeights)},
                           kShift, tile, thread, expected.data() + t * kTile);
    }

    const cuda::DeviceBuffer code_rows = poisoned(codes.size() + kGuard),
                             scale_rows = poisoned(scales.size() + kGuard),
                             tiles = poisoned(expected.size() + kGuard);
    const Fp4Matrices rows = {kWeights, code_rows.data(), scale_rows.data(), kShift};
    cuda::copy_to_device(rows.codes, codes.data(), codes.size(), stream_->get());
    cuda::copy_to_device(rows.scales, scales.data(), scales.size(), stream_->get());
    enqueue_fp4(gpu(), Direction::pack, m, experts, rows, tiles.data());
    EXPECT_TRUE(bytes(tiles.data(), expected.size()) == expected);
    EXPECT_EQ(bytes(tiles.data() + expected.size(), kGuard), poison);

    for (const cuda::DeviceBuffer* b : {&code_rows, &scale_rows})
      cuda::fill(b->data(), 0xd5, b->bytes(), stream_->get());
    enqueue_fp4(gpu(), Direction::unpack, m, experts, rows, tiles.data());
    EXPECT_TRUE(bytes(rows.codes, codes.size()) == codes);
    EXPECT_TRUE(bytes(rows.scales, scales.size()) == scales);
    EXPECT_EQ(bytes(rows.codes + codes.size(), kGuard), poison);
    EXPECT_EQ(bytes(rows.scales + scales.size(), kGuard), poison);
  }

  /// Microseconds of what `enqueue` enqueues: the best of five runs after one more.
  double best_us(const std::function<void()>& enqueue) const {
    double best = 1e30;
    for (int run = 0; run < 6; ++run) {
      const cuda::Event start(*context_, cuda::Timing::on), end(*context_, cuda::Timing::on);
      start.record(stream_->get());
      enqueue();
      end.record(stream_->get());
      const double us = elapsed_us(start, end);
      if (run > 0) best = std::min(best, us);
    }
    return best;
  }

  std::optional<cuda::Context> context_;
  std::optional<cuda::Current> current_;
  std::optional<cuda::Stream> stream_;
  std::optional<jit::Loader> loader_;
};

constexpr Matrix kShapes[] = {
    {2, 1, RowOrder::plain},          {1, 8, RowOrder::plain},
    {128, 64, RowOrder::plain},       {129, 72, RowOrder::plain},
    {127, 63, RowOrder::plain},       {300, 200, RowOrder::plain},
    {5, 1000, RowOrder::plain},       {2, 1, RowOrder::gate_up},
    {16, 16, RowOrder::gate_up},      {128, 64, RowOrder::gate_up},
    {130, 66, RowOrder::gate_up},     {254, 136, RowOrder::gate_up},
    {2 * 88, 200, RowOrder::plain},   {2 * 88, 200, RowOrder::gate_up},
    {2 * 150, 61, RowOrder::gate_up}, {768, 1024, RowOrder::gate_up},
};

TEST_F(RepackGpuTest, SmallMatricesAsOnTheHostAndBack) {
  for (const Matrix& m : kShapes)
    for (const int experts : {1, 3})
      for (const std::size_t offset : {0U, 2U, 16U}) {
        SCOPED_TRACE(testing::Message()
                     << m.out << " x " << m.in << " order " << static_cast<int>(m.order)
                     << " experts " << experts << " offset " << offset);
        round_trip(m, experts, offset);
      }
}

TEST_F(RepackGpuTest, FourBitMatricesAsOnTheHostAndBack) {
  for (const Matrix& m :
       {Matrix{1, 32, RowOrder::plain}, Matrix{128, 64, RowOrder::plain},
        Matrix{130, 96, RowOrder::plain}, Matrix{300, 224, RowOrder::plain},
        Matrix{2 * 88, 160, RowOrder::gate_up}, Matrix{768, 1024, RowOrder::gate_up}})
    for (const int experts : {1, 3}) {
      SCOPED_TRACE(testing::Message() << m.out << " x " << m.in << " experts " << experts);
      fp4_round_trip<Weights::nvfp4>(m, experts);
      fp4_round_trip<Weights::mxfp4>(m, experts);
    }
  fp4_round_trip<Weights::nvfp4>({129, 208, RowOrder::plain}, 3);
}

TEST_F(RepackGpuTest, NoExpertsAreNothing) {
  const Matrix m = {128, 64, RowOrder::plain};
  enqueue_pack(gpu(), m, 0, nullptr, nullptr);
  EXPECT_EQ(upload(gpu(), m, 0, {}).bytes(), 0U);
  stream_->synchronize();
}

TEST_F(RepackGpuTest, UploadsMoreThanTheBounceBuffersHold) {
  for (const Matrix& m : {Matrix{2 * 1440, 2888, RowOrder::gate_up},  // 16.6 MB
                          Matrix{100, 60, RowOrder::plain}}) {
    const Elements rows = random_elements(3 * row_elements(m)), expected = packed(m, 3, rows);
    const cuda::DeviceBuffer tiles = upload(gpu(), m, 3, std::as_bytes(std::span(rows)));
    ASSERT_EQ(tiles.bytes(), expected.size() * 2);
    EXPECT_TRUE(read(tiles.data(), expected.size()) == expected);
  }
}

TEST_F(RepackGpuTest, AtLeastHalfOfCopyBandwidth) {
  const Matrix m = {2 * 2048, 7168, RowOrder::gate_up};
  constexpr int kExperts = 16;  // 0.9 GiB a side: far more than L2
  const auto bytes = static_cast<std::size_t>(tiled_bytes(m)) * kExperts;
  const cuda::DeviceBuffer rows = poisoned(bytes), tiles = poisoned(bytes);
  const double copy =
      best_us([&] { cuda::copy_on_device(tiles.data(), rows.data(), bytes, stream_->get()); });
  const double pack = best_us([&] { enqueue_pack(gpu(), m, kExperts, rows.data(), tiles.data()); });
  const double unpack =
      best_us([&] { enqueue_unpack(gpu(), m, kExperts, tiles.data(), rows.data()); });
  RecordProperty("copy_us", std::to_string(copy));
  RecordProperty("pack_us", std::to_string(pack));
  RecordProperty("unpack_us", std::to_string(unpack));
  std::printf("copy %.0f us, pack %.0f us, unpack %.0f us for %zu bytes\n", copy, pack, unpack,
              bytes);
  EXPECT_LE(pack, 2 * copy);
  EXPECT_LE(unpack, 2 * copy);
}

TEST_F(RepackGpuTest, FourBitBandwidth) {
  const Matrix m = {2 * 2048, 7168, RowOrder::gate_up};
  constexpr int kExperts = 32;
  const std::size_t codes = row_elements(m) / 2 * kExperts, scales = codes / 8;
  const cuda::DeviceBuffer rows = poisoned(codes + scales), tiles = poisoned(codes + scales);
  const Fp4Matrices fp4 = {Weights::nvfp4, rows.data(), rows.data() + codes, 0};
  const double copy = best_us(
      [&] { cuda::copy_on_device(tiles.data(), rows.data(), codes + scales, stream_->get()); });
  double us[2] = {};
  for (const Direction d : {Direction::pack, Direction::unpack})
    us[static_cast<int>(d)] =
        best_us([&] { enqueue_fp4(gpu(), d, m, kExperts, fp4, tiles.data()); });
  std::printf("copy %.0f us, pack %.0f us, unpack %.0f us for %zu bytes\n", copy, us[0], us[1],
              codes + scales);
  EXPECT_LE(us[0], 3 * copy);
  EXPECT_LE(us[1], 6 * copy);  // writes pieces of 16 bytes
}

TEST(RepackKernel, UsesNoLocalMemory) {
  if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
  jit::Cache cache(in_memory());
  std::vector<jit::Program> programs;
  for (const Direction direction : {Direction::pack, Direction::unpack}) {
    programs.push_back(program({direction}, 90));
    for (const Weights weights : {Weights::nvfp4, Weights::mxfp4})
      programs.push_back(fp4_program(weights, direction, 90));
  }
  for (const jit::Program& one : programs) {
    SCOPED_TRACE(one.instance);
    const std::shared_ptr<const jit::Binary> binary = cache.get(one);
    EXPECT_EQ(binary->resources.stack_bytes, 0);
    EXPECT_EQ(binary->resources.spill_bytes, 0);
    EXPECT_LE(binary->resources.registers, 32);  // eight blocks an SM
    EXPECT_EQ(binary->warnings, "");
  }
}

}  // namespace
}  // namespace switchyard::repack
