#pragma once

// Fixed-width names and the attribute of functions that run on both sides. Read by g++, clang, nvcc
// and NVRTC, so nothing is included here.

#ifdef __CUDACC__
#define SWITCHYARD_BOTH __host__ __device__
#else
#define SWITCHYARD_BOTH
#endif

namespace switchyard {

using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

static_assert(sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(u64) == 8);

template <class To, class From>
SWITCHYARD_BOTH constexpr To bits_as(const From& from) {
  return __builtin_bit_cast(To, from);
}

}  // namespace switchyard
