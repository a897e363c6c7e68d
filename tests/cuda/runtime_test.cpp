// The runtime on a GPU: every test is skipped where there is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <optional>

#include "cuda/driver.h"
#include "cuda/memory.h"
#include "cuda/stream.h"
#include "cuda/tensor_map.h"
#include "jit/kernel.h"
#include "jit/nvrtc.h"
#include "switchyard/error.h"
#include "tests/jit/kernels/scale/shared.cuh"
#include "tests/jit/support.h"

namespace switchyard::cuda {
namespace {

using testing::HasSubstr;

class RuntimeGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::optional<std::string> declines = driver_declines()) GTEST_SKIP() << *declines;
    if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
    context_ = Context::open(0);
    if (context_->info().sm < 90) GTEST_SKIP() << to_string(context_->info());
    current_.emplace(*context_);
    stream_.emplace(*context_);
    jit::CacheOptions options = jit::test_options(folder_.path());
    options.compiler = jit::nvrtc_compiler();
    cache_ = std::make_shared<jit::Cache>(options);
    loader_.emplace(*context_, cache_);
  }

  jit::Program program(std::string file, std::string instance) const {
    return {std::move(file), std::move(instance), jit::architecture(context_->info().sm), {}};
  }

  jit::Launch scale_launch(int count) {
    constexpr scale::Config kConfig = {.threads = 256, .per_thread = 4};
    return {
        .kernel = loader_->kernel(program(
            "scale/kernel.cuh", "switchyard::scale::kernel<switchyard::scale::Config{256, 4}>")),
        .grid = {static_cast<unsigned>((count + kConfig.per_block() - 1) / kConfig.per_block())},
        .block = {static_cast<unsigned>(kConfig.threads)},
        .cluster = {},
        .smem_bytes = 0,
        .overlap_previous = true};
  }

  std::vector<float> read(const DeviceBuffer& buffer) const {
    std::vector<float> host(buffer.bytes() / sizeof(float));
    copy_to_host(host.data(), buffer.data(), buffer.bytes(), stream_->get());
    stream_->synchronize();
    return host;
  }

  jit::TemporaryFolder folder_;
  std::optional<Context> context_;
  std::optional<Current> current_;
  std::optional<Stream> stream_;
  std::shared_ptr<jit::Cache> cache_;
  std::optional<jit::Loader> loader_;
};

constexpr int kCount = 100'000;

TEST_F(RuntimeGpuTest, ChainOfDependentLaunchesInAReplayedGraph) {
  std::vector<float> host(kCount);
  std::iota(host.begin(), host.end(), 0.0F);
  const std::size_t bytes = host.size() * sizeof(float);
  const DeviceBuffer a(*context_, bytes), b(*context_, bytes);
  copy_to_device(a.data(), host.data(), bytes, stream_->get());

  const jit::Launch launch = scale_launch(kCount);
  const Graph graph = Graph::capture(*context_, stream_->get(), [&] {
    jit::enqueue(launch, scale::Args{a.as<float>(), b.as<float>(), kCount, 2.0F}, stream_->get());
    jit::enqueue(launch, scale::Args{b.as<float>(), a.as<float>(), kCount, 0.5F}, stream_->get());
    jit::enqueue(launch, scale::Args{a.as<float>(), b.as<float>(), kCount, 3.0F}, stream_->get());
  });
  const Event start(*context_, Timing::on), end(*context_, Timing::on);
  start.record(stream_->get());
  for (int replay = 0; replay < 10; ++replay) graph.launch(stream_->get());
  end.record(stream_->get());
  EXPECT_GT(elapsed_us(start, end), 0.0);
  const std::vector<float> out = read(b);
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(out[static_cast<std::size_t>(i)], 3.0F * float(i));
}

TEST_F(RuntimeGpuTest, AllocatingInsideACaptureFailsAndLeavesTheStreamUsable) {
  EXPECT_THROW(
      Graph::capture(*context_, stream_->get(), [&] { const DeviceBuffer none(*context_, 1024); }),
      DeviceError);
  const DeviceBuffer buffer(*context_, 1024);
  fill(buffer.data(), 0, 1024, stream_->get());
  EXPECT_EQ(read(buffer), std::vector<float>(256, 0.0F));
}

TEST_F(RuntimeGpuTest, ClusterAndDynamicSharedMemory) {
  const jit::Kernel kernel =
      loader_->kernel(program("scale/kernel.cuh", "switchyard::scale::shape"));
  EXPECT_EQ(kernel.smem_limit(), context_->info().smem_per_block);
  const DeviceBuffer out(*context_, 8 * sizeof(float));
  const jit::Launch launch = {.kernel = kernel,
                              .grid = {4},
                              .block = {32},
                              .cluster = {2},
                              .smem_bytes = kernel.smem_limit(),
                              .overlap_previous = false};
  jit::enqueue(launch, scale::Args{nullptr, out.as<float>(), 0, 0.0F}, stream_->get());
  const std::vector<float> host = read(out);
  for (std::size_t block = 0; block < 4; ++block) {
    EXPECT_EQ(host[2 * block], 2.0F);
    EXPECT_EQ(host[2 * block + 1], static_cast<float>(kernel.smem_limit()));
  }
}

TEST_F(RuntimeGpuTest, DriverAgreesWithPtxasAboutResources) {
  const jit::Kernel kernel =
      loader_->kernel(program("stack/kernel.cuh", "switchyard::stack::kernel"));
  int registers = 0, local = 0;
  SWITCHYARD_CU(
      driver().cuFuncGetAttribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, kernel.function()));
  SWITCHYARD_CU(
      driver().cuFuncGetAttribute(&local, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, kernel.function()));
  EXPECT_EQ(kernel.resources().registers, registers);
  EXPECT_EQ(kernel.resources().stack_bytes, local);
}

TEST_F(RuntimeGpuTest, TensorMapCopiesABoxAndZeroesWhatIsOutside) {
  constexpr int kRows = 20, kColumns = 96, kBoxRows = 8, kBoxColumns = 64;
  struct alignas(128) Args {
    CUtensorMap map;
    unsigned char* out;
    int column, row;
  };
  std::vector<unsigned char> host(kRows * kColumns), box(kBoxRows * kBoxColumns);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<unsigned char>(1 + i % 251);
  const DeviceBuffer in(*context_, host.size()), out(*context_, box.size());
  copy_to_device(in.data(), host.data(), host.size(), stream_->get());
  const jit::Launch launch = {
      .kernel = loader_->kernel(program("tile/kernel.cuh", "switchyard::tile::kernel<8, 64>")),
      .grid = {},
      .block = {128},
      .cluster = {},
      .smem_bytes = 0,
      .overlap_previous = false};
  constexpr int kRow = 16, kColumn = 48;
  const Args args = {.map = tensor_map({.data = in.data(),
                                        .dtype = DType::u8,
                                        .rank = 2,
                                        .extents = {kColumns, kRows},
                                        .strides_bytes = {kColumns},
                                        .box = {kBoxColumns, kBoxRows},
                                        .swizzle = Swizzle::none}),
                     .out = out.as<unsigned char>(),
                     .column = kColumn,
                     .row = kRow};
  jit::enqueue(launch, args, stream_->get());
  copy_to_host(box.data(), out.data(), box.size(), stream_->get());
  stream_->synchronize();
  for (int r = 0; r < kBoxRows; ++r)
    for (int c = 0; c < kBoxColumns; ++c) {
      const int row = kRow + r, column = kColumn + c;
      const bool inside = row < kRows && column < kColumns;
      const int expected = inside ? 1 + (row * kColumns + column) % 251 : 0;
      ASSERT_EQ(box[static_cast<std::size_t>(r * kBoxColumns + c)], expected) << r << ' ' << c;
    }
}

TEST_F(RuntimeGpuTest, StreamsWaitForEvents) {
  const Stream other(*context_);
  const DeviceBuffer buffer(*context_, std::size_t{64} << 20);
  fill(buffer.data(), 1, buffer.bytes(), stream_->get());
  const Event filled(*context_);
  filled.record(stream_->get());
  other.wait(filled.get());
  unsigned char last = 0;
  copy_to_host(&last, buffer.data() + buffer.bytes() - 1, 1, other.get());
  other.synchronize();
  EXPECT_EQ(last, 1);
}

TEST_F(RuntimeGpuTest, LoadsAKernelOnceAndServesItFromDisk) {
  const jit::Program wanted = program("scale/kernel.cuh", "switchyard::scale::shape");
  EXPECT_EQ(loader_->kernel(wanted), loader_->kernel(wanted));
  jit::CacheOptions off = jit::test_options(folder_.path());
  off.compile = jit::Compile::off;
  jit::Loader second(*context_, std::make_shared<jit::Cache>(off));
  EXPECT_NE(second.kernel(wanted).function(), nullptr);
}

TEST_F(RuntimeGpuTest, WhatTheDriverRefusesIsASentence) {
  jit::Binary junk = jit::made_up(program("scale/kernel.cuh", "nothing"), "13.0");
  try {
    jit::Kernel(*context_, std::make_shared<const jit::Binary>(junk));
    FAIL();
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("NVRTC 13.0"));
  }
  EXPECT_THROW(Context::open(1000), InvalidArgument);
  EXPECT_THROW(DeviceBuffer(*context_, std::size_t{1} << 50), DeviceError);
}

TEST_F(RuntimeGpuTest, AnEmptyGridEnqueuesNothing) {
  jit::Launch launch = scale_launch(0);
  EXPECT_EQ(launch.grid.x, 0U);
  EXPECT_NO_THROW(jit::enqueue(launch, scale::Args{nullptr, nullptr, 0, 0.0F}, stream_->get()));
}

TEST_F(RuntimeGpuTest, ContextsNest) {
  CUcontext now = nullptr;
  {
    const Current again(*context_);
    SWITCHYARD_CU(driver().cuCtxGetCurrent(&now));
    EXPECT_EQ(now, context_->handle());
  }
  current_.reset();
  SWITCHYARD_CU(driver().cuCtxGetCurrent(&now));
  EXPECT_EQ(now, nullptr);
  const DeviceBuffer buffer(*context_, 16);  // makes its own context current
  EXPECT_NE(buffer.data(), nullptr);
}

}  // namespace
}  // namespace switchyard::cuda
