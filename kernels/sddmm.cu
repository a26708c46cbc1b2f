// sddmm.cu - gradients at the links, dvalues[link] += <dy[row], x[column]> over tokens. Contract: include/sddmm.h.
//   v1  one thread per link; obvious, slow, the oracle on the device
//   v2  one warp per four links in CSR order, whatever their rows: equal work for every warp, 16-byte loads of both
//       operands, four sums in flight   <- default
// Accumulates in f32: a lane sums chunks lane, lane + 32, ... of eight tokens, then the warp adds in a fixed tree.
// Padding is zero in both operands and adds nothing. No atomics: one warp owns a link.
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/links.cuh"
#include "common/shape.cuh"
#include "sddmm.h"

namespace {

template <class T> struct Sampled {
    chtsl_links w;
    const T* dy;
    const T* x;
    float* dvalues;
    size_t dy_stride, x_stride;
    uint32_t width;  // tokens to sum over: padded, and within both strides
};

// v1. Grid nnz / 128, 128 threads.
template <class T> __global__ void __launch_bounds__(128) sddmm_naive_kernel(Sampled<T> p) {
    uint32_t link = blockIdx.x * 128 + threadIdx.x;
    if (link >= p.w.nnz) return;
    const T* dy = p.dy + row_of_link(p.w, link) * p.dy_stride;
    const T* x = p.x + p.w.indices[link] * p.x_stride;
    float sum = 0;
    for (uint32_t n = 0; n < p.width; ++n) sum += to_float(dy[n]) * to_float(x[n]);
    p.dvalues[link] += sum;
}

constexpr uint32_t links_per_warp = 4, sddmm_warps = 4;

// v2. Grid nnz / 16, 128 threads.
template <class T> __global__ void __launch_bounds__(32 * sddmm_warps) sddmm_warp_kernel(Sampled<T> p) {
    uint32_t lane = threadIdx.x % 32, first = (blockIdx.x * sddmm_warps + threadIdx.x / 32) * links_per_warp;
    if (first >= p.w.nnz) return;  // the whole warp leaves
    const T* dy[links_per_warp];
    const T* x[links_per_warp];
    uint32_t row = row_of_link(p.w, first);
#pragma unroll
    for (uint32_t i = 0; i < links_per_warp; ++i) {
        uint32_t link = min(first + i, p.w.nnz - 1);  // past the end: the last one again, and not stored
        while (p.w.offsets[row + 1] <= link) ++row;
        dy[i] = p.dy + row * p.dy_stride;
        x[i] = p.x + p.w.indices[link] * p.x_stride;
    }
    float sum[links_per_warp] = {};
    for (uint32_t n = 8 * lane; n < p.width; n += 256)
#pragma unroll
        for (uint32_t i = 0; i < links_per_warp; ++i) {
            float g[8], v[8];
            load_eight(g, dy[i] + n);
            load_eight(v, x[i] + n);
#pragma unroll
            for (int j = 0; j < 8; ++j) sum[i] += g[j] * v[j];
        }
#pragma unroll
    for (uint32_t i = 0; i < links_per_warp; ++i) {
        float total = warp_sum(sum[i]);
        if (lane == i && first + i < p.w.nnz) p.dvalues[first + i] += total;
    }
}

template <class T>
chtsl_status run(const chtsl_links& w, const chtsl_act& dy, const chtsl_act& x, float* dvalues, int32_t version,
                 cudaStream_t stream) {
    Sampled<T> p{w, data<T>(dy), data<T>(x), dvalues, dy.stride, x.stride,
                 min(dy.stride, x.stride)};
    if (w.nnz == 0 || p.width == 0) return CHTSL_OK;
    constexpr uint32_t per_block = links_per_warp * sddmm_warps;
    switch (version) {
        case 1: LAUNCH(sddmm_naive_kernel<T>, dim3((w.nnz + 127) / 128), dim3(128), 0, stream, p); break;
        case 0:
        case 2: LAUNCH(sddmm_warp_kernel<T>, dim3((w.nnz + per_block - 1) / per_block), dim3(32 * sddmm_warps), 0, stream, p); break;
        default: return CHTSL_UNSUPPORTED;
    }
    return launch_status();
}

}  // namespace

chtsl_status CHTSL_SYMBOL(sddmm)(chtsl_links w, chtsl_act dy, chtsl_act x, float* dvalues, int32_t version,
                                 chtsl_stream stream) {
    CHTSL_TRY(check_links(w));
    CHTSL_TRY(check_act(dy, w.rows, dy.tokens));
    CHTSL_TRY(check_act(x, w.cols, dy.tokens));
    if (dy.type != x.type) return CHTSL_UNSUPPORTED;
    if (w.nnz && !dvalues) return CHTSL_BAD_SHAPE;
    auto on = static_cast<cudaStream_t>(stream);
    return dy.type == CHTSL_BF16 ? run<bf16>(w, dy, x, dvalues, version, on) : run<float>(w, dy, x, dvalues, version, on);
}
