#include "cuda/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "cuda/context.h"
#include "cuda/tensor_map.h"
#include "switchyard/error.h"

namespace switchyard::cuda {
namespace {

using testing::HasSubstr;

TEST(Driver, NoneIsASentence) {
  const Opened opened = open_driver("libswitchyard_no_such_driver.so");
  ASSERT_TRUE(opened.declines);
  EXPECT_THAT(*opened.declines, HasSubstr("no NVIDIA driver"));
  EXPECT_THAT(*opened.declines, HasSubstr("use the device cpu"));
}

TEST(Driver, OneWithoutAFunctionIsTooOld) {
  const Opened opened = open_driver("libm.so.6");
  ASSERT_TRUE(opened.declines);
  EXPECT_THAT(*opened.declines, HasSubstr("too old: libm.so.6 has no cuInit"));
}

TEST(Driver, TheToolkitsStubHasEveryFunctionAndIsNoDriver) {
  const char* stub = "/usr/local/cuda/lib64/stubs/libcuda.so";
  if (!std::filesystem::exists(stub)) GTEST_SKIP() << "no toolkit with " << stub;
  // In a process of its own: it has the driver's soname and would stand in for it from here on.
  EXPECT_EXIT(
      {
        std::fputs(open_driver(stub).declines.value_or("opened").c_str(), stderr);
        std::exit(0);
      },
      testing::ExitedWithCode(0), "toolkit's stub of the driver was found first");
}

TEST(Driver, WithoutOneEveryDoorSaysSo) {
  const std::optional<std::string> declines = driver_declines();
  if (!declines) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THROW(driver(), Unsupported);
  EXPECT_THROW(device_count(), Unsupported);
  EXPECT_THROW(Context::open(0), Unsupported);
  EXPECT_THROW(driver_version(), Unsupported);
}

TEST(Driver, ErrorsNameTheCallAndThePlace) {
  EXPECT_NO_THROW(check(CUDA_SUCCESS, "cuInit(0)"));
  try {
    SWITCHYARD_CU(CUDA_ERROR_NO_DEVICE);
    FAIL();
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("CUDA_ERROR_NO_DEVICE failed"));
    EXPECT_THAT(error.what(), HasSubstr("driver_test.cpp:"));
  }
}

TEST(DeviceInfo, Text) {
  EXPECT_EQ(to_string(DeviceInfo{.name = "NVIDIA H200",
                                 .sm = 90,
                                 .multiprocessors = 132,
                                 .memory_bytes = std::size_t{140} << 30}),
            "NVIDIA H200, sm_90, 132 SMs, 140.0 GiB");
}

TEST(TensorMap, WrongFieldsAreNamed) {
  alignas(16) static std::byte data[16];
  const TiledTensor good = {.data = data,
                            .dtype = DType::bf16,
                            .rank = 2,
                            .extents = {128, 64},
                            .strides_bytes = {256},
                            .box = {64, 8},
                            .swizzle = Swizzle::b128};
  const auto expect_named = [](const TiledTensor& tensor, const char* field) {
    try {
      tensor_map(tensor);
      ADD_FAILURE() << field;
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), HasSubstr(field));
    }
  };
  TiledTensor wrong = good;
  wrong.data = data + 8;
  expect_named(wrong, "data");
  wrong = good;
  wrong.dtype = DType::f4_e2m1;
  expect_named(wrong, "dtype");
  wrong = good;
  wrong.rank = 4;
  expect_named(wrong, "rank");
  wrong = good;
  wrong.extents[1] = 0;
  expect_named(wrong, "extent 1");
  wrong = good;
  wrong.strides_bytes[0] = 264;
  expect_named(wrong, "stride of axis 1");
  wrong = good;
  wrong.box[1] = 257;
  expect_named(wrong, "box 1");
  wrong = good;
  wrong.box[0] = 128;
  expect_named(wrong, "at most 128 bytes");
  wrong = good;
  wrong.box[0] = 7;
  expect_named(wrong, "multiple of 16 bytes");
}

}  // namespace
}  // namespace switchyard::cuda
