#pragma once

// Fixed-width names and the attribute of functions that run on both sides. Read by g++, clang, nvcc
// and NVRTC, so nothing is included here.

#ifdef __CUDACC__
#define SWITCHYARD_BOTH __host__ __device__
#else
#define SWITCHYARD_BOTH
#endif

namespace switchyard {

using int8 = signed char;
using uint8 = unsigned char;
using int16 = short;
using uint16 = unsigned short;
using int32 = int;
using uint32 = unsigned int;
using int64 = long long;
using uint64 = unsigned long long;

static_assert(sizeof(uint16) == 2 && sizeof(uint32) == 4 && sizeof(uint64) == 8);

template <class To, class From>
SWITCHYARD_BOTH constexpr To bits_as(const From& from) {
  return __builtin_bit_cast(To, from);
}

}  // namespace switchyard
