// problem.cuh - arguments of the low-rank passes, phi, and versions 1. Part of low_rank.cu.
#pragma once
#include "common/branches.cuh"
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"
#include "low_rank.h"

namespace {

// u = a x, o = s + scale b phi(u).
template <class T> struct Forward {
    const T* a;
    const T* b;
    const T* x;
    T* u;
    const T* s;  // null: zero; may be o
    T* o;
    float* sums;  // null: not wanted
    size_t a_stride, b_stride, x_stride, u_stride, s_stride, o_stride, sums_stride;
    uint32_t in, out, rank, width;
    float scale;
    bool silu;
};

// d_o += c D, d_l = d_o - c D, du = scale b^T d_l phi'(u).
template <class T> struct Backward {
    const T* b;
    const T* u;
    const T* o;
    const float* c;  // null: no alignment, and d_l is d_o
    T* d_o;
    T* d_l;
    T* phi;  // null: not wanted
    T* du;
    size_t b_stride, u_stride, o_stride, d_o_stride, d_l_stride, phi_stride, du_stride;
    uint32_t out, rank, width;
    float scale;
    bool silu;
};

// 1 / (1 + e^-u): with e^ to two units for f32; the hardware's, good to 2^-21 where sigmoids are not negligible,
// for what is rounded to bf16 next.
template <class T> DEVICE float sigmoid(float u);
template <> DEVICE float sigmoid<float>(float u) { return 1.0f / (1.0f + expf(-u)); }
template <> DEVICE float sigmoid<bf16>(float u) { return 1.0f / (1.0f + __expf(-u)); }

template <class T> DEVICE float phi(float u, bool silu) { return silu ? u * sigmoid<T>(u) : u; }

template <class T> DEVICE float phi_slope(float u, bool silu) {
    if (!silu) return 1.0f;
    float s = sigmoid<T>(u);
    return s * (1.0f + u * (1.0f - s));
}

// ------------------------------------------------------------------------------------------------------- version 1
// One thread per element, 128 neighbouring tokens per block, width / 128 blocks per row. Passes follow one another:
// u; branch sums (before o replaces s); o.

constexpr uint32_t naive_threads = 128;

template <class T> __global__ void __launch_bounds__(naive_threads) low_rank_u_naive_kernel(Forward<T> p, uint32_t tiles) {
    uint32_t r = blockIdx.x / tiles, n = blockIdx.x % tiles * naive_threads + threadIdx.x;
    float sum = 0;
    for (uint32_t k = 0; k < p.in; ++k) sum += to_float(p.a[r * p.a_stride + k]) * to_float(p.x[k * p.x_stride + n]);
    p.u[r * p.u_stride + n] = from_float<T>(sum);
}

// L[m, n] from the stored u.
template <class T, class P> DEVICE float low_rank_element(const P& p, const T* u, uint32_t m, uint32_t n) {
    float sum = 0;
    for (uint32_t r = 0; r < p.rank; ++r) sum += to_float(p.b[m * p.b_stride + r]) * phi<T>(to_float(u[r * p.u_stride + n]), p.silu);
    return p.scale * sum;
}

template <class T> __global__ void __launch_bounds__(naive_threads) low_rank_sums_naive_kernel(Forward<T> p) {
    uint32_t n = blockIdx.x * naive_threads + threadIdx.x;
    BranchSums<1> sums;
    for (uint32_t m = 0; m < p.out; ++m)
        sums.add(0, p.s ? to_float(p.s[m * p.s_stride + n]) : 0.0f, low_rank_element<T>(p, p.u, m, n));
    for (uint32_t which = 0; which < CHTSL_SUMS; ++which) p.sums[which * p.sums_stride + n] = sums.of[which][0];
}

template <class T> __global__ void __launch_bounds__(naive_threads) low_rank_o_naive_kernel(Forward<T> p, uint32_t tiles) {
    uint32_t m = blockIdx.x / tiles, n = blockIdx.x % tiles * naive_threads + threadIdx.x;
    float s = p.s ? to_float(p.s[m * p.s_stride + n]) : 0.0f;
    p.o[m * p.o_stride + n] = from_float<T>(s + low_rank_element<T>(p, p.u, m, n));
}

template <class T> __global__ void __launch_bounds__(naive_threads) low_rank_align_naive_kernel(Backward<T> p, uint32_t tiles) {
    uint32_t m = blockIdx.x / tiles, n = blockIdx.x % tiles * naive_threads + threadIdx.x;
    float d_o = to_float(p.d_o[m * p.d_o_stride + n]), d_l;
    align(d_o, d_l, to_float(p.o[m * p.o_stride + n]), low_rank_element<T>(p, p.u, m, n), p.c[n]);
    p.d_o[m * p.d_o_stride + n] = from_float<T>(d_o);
    p.d_l[m * p.d_l_stride + n] = from_float<T>(d_l);
}

template <class T> __global__ void __launch_bounds__(naive_threads) low_rank_du_naive_kernel(Backward<T> p, uint32_t tiles) {
    uint32_t r = blockIdx.x / tiles, n = blockIdx.x % tiles * naive_threads + threadIdx.x;
    float sum = 0, u = to_float(p.u[r * p.u_stride + n]);
    for (uint32_t m = 0; m < p.out; ++m) sum += to_float(p.b[m * p.b_stride + r]) * to_float(p.d_l[m * p.d_l_stride + n]);
    p.du[r * p.du_stride + n] = from_float<T>(p.scale * sum * phi_slope<T>(u, p.silu));
    if (p.phi) p.phi[r * p.phi_stride + n] = from_float<T>(phi<T>(u, p.silu));
}

// Whether a grid of one block per row and 128 tokens can be indexed.
inline bool fits_naive_grid(uint32_t rows, uint32_t width) { return uint64_t(rows) * (width / naive_threads) <= largest_extent; }

template <class T> chtsl_status launch_naive(const Forward<T>& p, cudaStream_t stream) {
    uint32_t tiles = p.width / naive_threads;
    if (!fits_naive_grid(max(p.rank, p.out), p.width)) return CHTSL_TOO_LARGE;
    LAUNCH(low_rank_u_naive_kernel<T>, dim3(tiles * p.rank), dim3(naive_threads), 0, stream, p, tiles);
    if (p.sums) LAUNCH(low_rank_sums_naive_kernel<T>, dim3(tiles), dim3(naive_threads), 0, stream, p);
    if (p.out) LAUNCH(low_rank_o_naive_kernel<T>, dim3(tiles * p.out), dim3(naive_threads), 0, stream, p, tiles);
    return launch_status();
}

template <class T> chtsl_status launch_naive(const Backward<T>& p, cudaStream_t stream) {
    uint32_t tiles = p.width / naive_threads;
    if (!fits_naive_grid(max(p.rank, p.out), p.width)) return CHTSL_TOO_LARGE;
    if (p.c && p.out) LAUNCH(low_rank_align_naive_kernel<T>, dim3(tiles * p.out), dim3(naive_threads), 0, stream, p, tiles);
    LAUNCH(low_rank_du_naive_kernel<T>, dim3(tiles * p.rank), dim3(naive_threads), 0, stream, p, tiles);
    return launch_status();
}

}  // namespace
