// language.h - CUDA's keywords, vector types and built-in variables.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define __shared__ static thread_local
#define __constant__ static

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define EMULATION_VECTOR_2(name, type)              \
    struct alignas(2 * sizeof(type)) name { type x, y; }; \
    inline name make_##name(type x, type y) { return {x, y}; }
#define EMULATION_VECTOR_4(name, type)                    \
    struct alignas(4 * sizeof(type)) name { type x, y, z, w; }; \
    inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATION_VECTOR_2(float2, float)
EMULATION_VECTOR_4(float4, float)
EMULATION_VECTOR_2(double2, double)
EMULATION_VECTOR_2(int2, int)
EMULATION_VECTOR_4(int4, int)
EMULATION_VECTOR_2(uint2, unsigned)
EMULATION_VECTOR_4(uint4, unsigned)
EMULATION_VECTOR_4(ushort4, unsigned short)
EMULATION_VECTOR_2(longlong2, long long)
EMULATION_VECTOR_2(ulonglong2, unsigned long long)

namespace emulation {
// Where in the source a barrier, shuffle or copy stands.
struct Site { const char* file; int line; };
inline Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

// The compiler may reuse these answers within a function: a fiber never changes its thread or block.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 block_size();
__attribute__((const)) dim3 grid_size();
}  // namespace emulation

#define EMULATION_SITE emulation::Site site = emulation::here()
#define threadIdx (emulation::thread_index())
#define blockIdx (emulation::block_index())
#define blockDim (emulation::block_size())
#define gridDim (emulation::grid_size())
constexpr int warpSize = 32;
