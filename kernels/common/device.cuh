// device.cuh - the one header a kernel includes: launches, dynamic shared memory, 16-byte accesses, named barriers, and
// the wrappers of the other headers here. A wrapper has a PTX body for the device and a portable body for emulation/,
// so that kernels are one text for both. Needs sm_80.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(128) unsigned char dynamic_bytes[]; \
    type* name = reinterpret_cast<type*>(dynamic_bytes)
// The emulator names the calling line in its reports; the device has no such parameter.
#define AND_SITE
#define DEVICE __device__ __forceinline__
#else
#include "emulation/emulation.h"
#define AND_SITE , emulation::Site site = emulation::here()
#define DEVICE inline __attribute__((always_inline))
#endif

constexpr unsigned all_lanes = 0xffffffffu;

// 16-byte accesses. `p` must be a multiple of 16 bytes: the device traps otherwise, the emulator says where.
DEVICE uint4 load_16_bytes(const void* p AND_SITE) {
#if !defined(__CUDACC__)
    emulation::check(p, 16, emulation::Access::read, 16, site);
#endif
    return *static_cast<const uint4*>(p);
}
DEVICE void store_16_bytes(void* p, uint4 v AND_SITE) {
#if !defined(__CUDACC__)
    emulation::check(p, 16, emulation::Access::write, 16, site);
#endif
    *static_cast<uint4*>(p) = v;
}

// `threads` (a multiple of 32) of the block meet at barrier `id` in 1..15; __syncthreads is barrier 0.
DEVICE void named_barrier(unsigned id, unsigned threads AND_SITE) {
#if defined(__CUDACC__)
    asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    emulation::barrier(id, threads, site);
#endif
}

// For launchers: bytes of shared memory a block may have, static and dynamic together, after cudaFuncSetAttribute; 48 KiB
// when the device does not answer.
static inline unsigned shared_memory_limit() {
    int device = 0, bytes = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 48 * 1024;
    if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return 48 * 1024;
    return static_cast<unsigned>(bytes);
}

#include "common/bf16.cuh"
#include "common/copy_async.cuh"
#include "common/matrix.cuh"
#include "common/warp.cuh"
