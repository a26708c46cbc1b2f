// alignment.cu - O = S + L with branch sums, and the alignment term's gradient, as passes of their own: for branches that
// come from the dense library, and the oracle of the passes fused into low_rank.cu. Contract: include/alignment.h.
//   v1  one thread per token (forward) or element (backward); obvious, slow, the oracle on the device
//   v2  a block owns 64 tokens: 8 lanes have 16 bytes of a row each, 32 rows at a time; the sums of a token meet first
//       in a warp, then across the warps in order   <- default
// Every element is read and written once: the passes take what device memory takes, forward 3 and backward 5 times
// features x tokens elements (512 x 131072 in bf16: 0.40 and 0.67 GB, 0.10 and 0.17 ms at 4 TB/s). No atomics.
#include "alignment.h"
#include "common/branches.cuh"
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"

namespace {

template <class T> struct Forward {
    const T* s;
    const T* l;  // null: zero
    T* o;
    float* sums;  // null: not wanted
    size_t s_stride, l_stride, o_stride, sums_stride;
    uint32_t features, width;
};

template <class T> struct Backward {
    const T* d_o;
    const T* o;
    const T* l;
    const float* c;
    T* d_s;
    T* d_l;
    size_t d_o_stride, o_stride, l_stride, d_s_stride, d_l_stride;
    uint32_t features, width;
};

// v1. Grid width / 128, 128 threads, one token each.
template <class T> __global__ void __launch_bounds__(128) alignment_forward_naive_kernel(Forward<T> p) {
    uint32_t n = blockIdx.x * 128 + threadIdx.x;
    if (n >= p.width) return;
    BranchSums<1> sums;
    for (uint32_t m = 0; m < p.features; ++m) {
        float s = to_float(p.s[m * p.s_stride + n]), l = p.l ? to_float(p.l[m * p.l_stride + n]) : 0.0f;
        p.o[m * p.o_stride + n] = from_float<T>(s + l);
        sums.add(0, s, l);
    }
    if (p.sums)
        for (uint32_t which = 0; which < CHTSL_SUMS; ++which) p.sums[which * p.sums_stride + n] = sums.of[which][0];
}

// v1. Grid width / 128 blocks per feature, 128 threads, one token each.
template <class T> __global__ void __launch_bounds__(128) alignment_backward_naive_kernel(Backward<T> p, uint32_t tiles) {
    uint32_t m = blockIdx.x / tiles, n = blockIdx.x % tiles * 128 + threadIdx.x;
    if (n >= p.width) return;
    float d_s = to_float(p.d_o[m * p.d_o_stride + n]), d_l;
    align(d_s, d_l, to_float(p.o[m * p.o_stride + n]), to_float(p.l[m * p.l_stride + n]), p.c[n]);
    p.d_s[m * p.d_s_stride + n] = from_float<T>(d_s);
    p.d_l[m * p.d_l_stride + n] = from_float<T>(d_l);
}

struct Tile {
    static constexpr uint32_t tokens = 64, threads = 256, warps = threads / 32, lanes = tokens / 8, rows = threads / lanes;
    static_assert(tokens <= 128 && 128 % tokens == 0, "strides are whole tiles");
};

// v2. Grid width / 64, 256 threads: thread has tokens 8 (i % 8) .. of rows i / 8, i / 8 + 32, ...
template <class T> __global__ void __launch_bounds__(Tile::threads) alignment_forward_kernel(Forward<T> p) {
    __shared__ __align__(16) float patches[Tile::warps][CHTSL_SUMS * Tile::tokens];
    uint32_t first = blockIdx.x * Tile::tokens, own = threadIdx.x % Tile::lanes * 8, n = first + own;
    BranchSums<8> sums;
#pragma unroll 2
    for (uint32_t m = threadIdx.x / Tile::lanes; m < p.features; m += Tile::rows) {
        float s[8], l[8] = {};
        load_eight(s, p.s + m * p.s_stride + n);
        if (p.l) load_eight(l, p.l + m * p.l_stride + n);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            sums.add(j, s[j], l[j]);
            s[j] += l[j];
        }
        store_eight(p.o + m * p.o_stride + n, s);
    }
    if (!p.sums) return;
    sums.join_lanes(Tile::lanes);
    if (threadIdx.x % 32 < Tile::lanes) sums.leave(patches[threadIdx.x / 32], Tile::tokens, own);
    __syncthreads();
    store_branch_sums<Tile::tokens, Tile::warps, Tile::threads>(patches[0], p.sums + first, p.sums_stride);
}

// v2. The same grid and rows.
template <class T> __global__ void __launch_bounds__(Tile::threads) alignment_backward_kernel(Backward<T> p) {
    uint32_t n = blockIdx.x * Tile::tokens + threadIdx.x % Tile::lanes * 8;
    float c[8];
    load_eight(c, p.c + n);
#pragma unroll 2
    for (uint32_t m = threadIdx.x / Tile::lanes; m < p.features; m += Tile::rows) {
        float d_s[8], d_l[8], o[8], l[8];
        load_eight(d_s, p.d_o + m * p.d_o_stride + n);
        load_eight(o, p.o + m * p.o_stride + n);
        load_eight(l, p.l + m * p.l_stride + n);
#pragma unroll
        for (int j = 0; j < 8; ++j) align(d_s[j], d_l[j], o[j], l[j], c[j]);
        store_eight(p.d_s + m * p.d_s_stride + n, d_s);
        store_eight(p.d_l + m * p.d_l_stride + n, d_l);
    }
}

template <class T>
chtsl_status forward(const chtsl_act& s, const chtsl_act& l, const chtsl_act& o, const chtsl_act& sums, int32_t version, cudaStream_t stream) {
    uint32_t width = min(s.stride, o.stride);
    if (l.data) width = min(width, l.stride);
    if (sums.data) width = min(width, sums.stride);
    Forward<T> p{data<T>(s), data<T>(l), data<T>(o),
                 data<float>(sums), s.stride, l.stride, o.stride, sums.stride, s.features, width};
    if (width == 0) return CHTSL_OK;
    switch (version) {
        case 1: LAUNCH(alignment_forward_naive_kernel<T>, dim3(width / 128), dim3(128), 0, stream, p); break;
        case 0:
        case 2: LAUNCH(alignment_forward_kernel<T>, dim3(width / Tile::tokens), dim3(Tile::threads), 0, stream, p); break;
        default: return CHTSL_UNSUPPORTED;
    }
    return launch_status();
}

template <class T>
chtsl_status backward(const chtsl_act& d_o, const chtsl_act& o, const chtsl_act& l, const chtsl_act& c, const chtsl_act& d_s,
                      const chtsl_act& d_l, int32_t version, cudaStream_t stream) {
    uint32_t width = min(min(min(d_o.stride, o.stride), min(l.stride, c.stride)), min(d_s.stride, d_l.stride));
    Backward<T> p{data<T>(d_o), data<T>(o), data<T>(l),
                  data<float>(c), data<T>(d_s), data<T>(d_l), d_o.stride, o.stride,
                  l.stride, d_s.stride, d_l.stride, o.features, width};
    if (width == 0 || o.features == 0) return CHTSL_OK;
    if (uint64_t(width / 128) * o.features > largest_extent) return CHTSL_TOO_LARGE;
    switch (version) {
        case 1: LAUNCH(alignment_backward_naive_kernel<T>, dim3(width / 128 * o.features), dim3(128), 0, stream, p, width / 128); break;
        case 0:
        case 2: LAUNCH(alignment_backward_kernel<T>, dim3(width / Tile::tokens), dim3(Tile::threads), 0, stream, p); break;
        default: return CHTSL_UNSUPPORTED;
    }
    return launch_status();
}

}  // namespace

chtsl_status CHTSL_SYMBOL(alignment_forward)(chtsl_act s, chtsl_act l, chtsl_act o, chtsl_act sums, int32_t version, chtsl_stream stream) {
    CHTSL_TRY(check_act(s, s.features, s.tokens));
    CHTSL_TRY(check_act(o, s.features, s.tokens));
    if (o.type != s.type) return CHTSL_UNSUPPORTED;
    if (l.data) {
        CHTSL_TRY(check_act(l, s.features, s.tokens));
        if (l.type != s.type) return CHTSL_UNSUPPORTED;
    }
    if (sums.data) {
        CHTSL_TRY(check_act(sums, CHTSL_SUMS, s.tokens));
        if (sums.type != CHTSL_F32) return CHTSL_UNSUPPORTED;
    }
    auto on = static_cast<cudaStream_t>(stream);
    return s.type == CHTSL_BF16 ? forward<bf16>(s, l, o, sums, version, on) : forward<float>(s, l, o, sums, version, on);
}

chtsl_status CHTSL_SYMBOL(alignment_backward)(chtsl_act d_o, chtsl_act o, chtsl_act l, chtsl_act coefficients, chtsl_act d_s,
                                              chtsl_act d_l, int32_t version, chtsl_stream stream) {
    for (const chtsl_act& x : {d_o, o, l, d_s, d_l}) {
        CHTSL_TRY(check_act(x, o.features, o.tokens));
        if (x.type != o.type) return CHTSL_UNSUPPORTED;
    }
    CHTSL_TRY(check_act(coefficients, 1, o.tokens));
    if (coefficients.type != CHTSL_F32) return CHTSL_UNSUPPORTED;
    auto on = static_cast<cudaStream_t>(stream);
    return o.type == CHTSL_BF16 ? backward<bf16>(d_o, o, l, coefficients, d_s, d_l, version, on)
                                : backward<float>(d_o, o, l, coefficients, d_s, d_l, version, on);
}
