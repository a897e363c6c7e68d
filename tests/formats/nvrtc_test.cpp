// The freestanding headers through NVRTC, which has no standard headers at all: what the kernels
// of the GPU backend will include.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace switchyard {
namespace {

constexpr const char* kProgram = R"(
#include "formats/bf16.cuh"
#include "formats/e8m0.cuh"
#include "formats/fp16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"
#include "formats/fp8_block.cuh"
#include "formats/int4.cuh"
#include "formats/mxfp4.cuh"
#include "formats/mxfp8.cuh"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"
using namespace switchyard::formats;

static_assert(encode_e4m3(448.0F) == 0x7e && decode_e2m1(7) == 6.0F);

extern "C" __global__ void every_codec(const float* x, const unsigned char* code, float* y) {
  const int i = static_cast<int>(threadIdx.x);
  const Nvfp4Scale fast = nvfp4_scale_fast(x[i], x[0]);
  const Nvfp4Scale exact = nvfp4_scale_exact(x[i], x[0]);
  const Nvfp4Scale fused = nvfp4_scale_epilogue(x[i], x[0]);
  y[i] = decode_bf16(encode_bf16(x[i])) + decode_fp16(encode_fp16(x[i])) +
         decode_e4m3(encode_fp8(x[i], fp8_scale(x[0]))) + decode_e5m2(encode_e5m2(x[i])) +
         decode_e2m1(encode_e2m1(x[i] * fast.multiplier)) + decode_e4m3(exact.code) +
         fused.multiplier + e8m0_multiplier(mxfp4_scale(x[i])) + decode_e8m0(mxfp8_scale(x[i])) +
         encode_e8m0_nearest(x[i]) + encode_int4(x[i], x[0]) + nibble(code, i) +
         flip_int4_sign(code[i]) + offset_linear(i, 1, 2) + offset_128x4(i, 1, 2) +
         offset_8x4(i, 1, 2) + encode_bf16(static_cast<double>(x[i]));
}
)";

/// The few entry points of nvrtc.h that this test calls.
struct Nvrtc {
  using Program = void*;
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile)(Program, int, const char* const*);
  int (*log_size)(Program, std::size_t*);
  int (*log)(Program, char*);
  int (*destroy)(Program*);
};

/// Never closed: what NVRTC keeps until the process ends would look like a leak.
void* open_nvrtc() {
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"})
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  ASSERT_NE(function, nullptr) << name;
}

TEST(Nvrtc, CompilesEveryCodecForTheDevice) {
  void* const library = open_nvrtc();
  if (!library) GTEST_SKIP() << "libnvrtc was not found";
  Nvrtc nvrtc{};
  find(library, "nvrtcCreateProgram", nvrtc.create);
  find(library, "nvrtcCompileProgram", nvrtc.compile);
  find(library, "nvrtcGetProgramLogSize", nvrtc.log_size);
  find(library, "nvrtcGetProgramLog", nvrtc.log);
  find(library, "nvrtcDestroyProgram", nvrtc.destroy);

  Nvrtc::Program program = nullptr;
  ASSERT_EQ(nvrtc.create(&program, kProgram, "every_codec.cu", 0, nullptr, nullptr), 0);
  const std::string include = std::string("-I") + SWITCHYARD_SOURCE_DIR + "/src";
  const char* options[] = {"-std=c++20", "-arch=sm_90a", include.c_str()};
  const int result = nvrtc.compile(program, 3, options);
  std::size_t size = 0;
  nvrtc.log_size(program, &size);
  std::vector<char> log(size + 1);
  nvrtc.log(program, log.data());
  EXPECT_EQ(result, 0) << log.data();
  EXPECT_STREQ(log.data(), "") << "warnings";
  nvrtc.destroy(&program);
}

}  // namespace
}  // namespace switchyard
