// Fixed-width types, freestanding: read by g++, nvcc and NVRTC.
#pragma once
namespace switchyard {
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;
}
