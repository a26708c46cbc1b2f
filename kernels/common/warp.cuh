// warp.cuh - sums and maxima over a warp and over a block, always in one fixed order: the same inputs give the same bits.
#pragma once
#include "common/device.cuh"

// Sum over the warp, or over each group of `lanes` neighbours (a power of two), in a fixed tree: float, double or
// integers. Every lane receives it, with the same bits, because a + b and b + a round alike. All 32 lanes must call it.
template <int lanes = 32, class T> DEVICE T warp_sum(T v) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(all_lanes, v, step);
    return v;
}

// Largest of the warp or group, for every lane. NaN loses against numbers, as in fmaxf.
template <int lanes = 32> DEVICE float warp_max(float v) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(all_lanes, v, step));
    return v;
}

// Sum over a block of `threads` threads (a multiple of 32, the x dimension), for every thread: a tree within each warp,
// then the warps in ascending order. All threads must call it; it begins no earlier than the slowest of them and its
// last barrier lets the scratch be used again at once.
template <int threads, class T> DEVICE T block_sum(T v) {
    static_assert(threads % 32 == 0 && threads <= 1024, "whole warps");
    __shared__ T warps[threads / 32];
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    T sum = warps[0];
    for (int w = 1; w < threads / 32; ++w) sum += warps[w];
    __syncthreads();
    return sum;
}

// Largest of a block, for every thread; as block_sum otherwise.
template <int threads> DEVICE float block_max(float v) {
    static_assert(threads % 32 == 0 && threads <= 1024, "whole warps");
    __shared__ float warps[threads / 32];
    v = warp_max(v);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    float largest = warps[0];
    for (int w = 1; w < threads / 32; ++w) largest = fmaxf(largest, warps[w]);
    __syncthreads();
    return largest;
}
