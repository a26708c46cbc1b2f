// elementwise.cu - operations element by element, and the sum of squares. Contract: include/elementwise.h.
// Every pass is bound by memory: a thread takes eight neighbouring elements with 16-byte accesses. Activations
// include their padding, where all operands are zero and every operation gives zero.
#include <initializer_list>
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"
#include "elementwise.h"

namespace {

constexpr uint32_t block_threads = 256;

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// Grid ceil(stride / 256) blocks per row, 256 threads, one element each.
template <class T> __global__ void __launch_bounds__(block_threads) cast_kernel(const float* __restrict__ from, uint32_t from_stride, uint32_t cols, T* to, uint32_t to_stride, uint32_t tiles) {
    uint32_t row = blockIdx.x / tiles, j = blockIdx.x % tiles * block_threads + threadIdx.x;
    if (j >= to_stride) return;
    to[size_t(row) * to_stride + j] = from_float<T>(j < cols ? from[size_t(row) * from_stride + j] : 0.0f);
}

// The three below: grid n / 2048, 256 threads, eight elements each; n is a multiple of 128.
template <class T> __global__ void __launch_bounds__(block_threads) add_kernel(size_t n, const T* a, const T* b, T* y) {
    size_t i = 8 * (size_t(blockIdx.x) * block_threads + threadIdx.x);
    if (i >= n) return;
    float p[8], q[8];
    load_eight(p, a + i);
    load_eight(q, b + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) p[j] += q[j];
    store_eight(y + i, p);
}

template <class T> __global__ void __launch_bounds__(block_threads) swiglu_forward_kernel(size_t n, const T* __restrict__ gate, const T* __restrict__ up, T* __restrict__ y) {
    size_t i = 8 * (size_t(blockIdx.x) * block_threads + threadIdx.x);
    if (i >= n) return;
    float g[8], u[8];
    load_eight(g, gate + i);
    load_eight(u, up + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) u[j] *= g[j] * sigmoid(g[j]);
    store_eight(y + i, u);
}

// SiLU'(g) = s (1 + g (1 - s)) with s = sigmoid(g).
template <class T> __global__ void __launch_bounds__(block_threads) swiglu_backward_kernel(size_t n, const T* __restrict__ dy, const T* __restrict__ gate, const T* __restrict__ up, T* __restrict__ dgate, T* __restrict__ dup) {
    size_t i = 8 * (size_t(blockIdx.x) * block_threads + threadIdx.x);
    if (i >= n) return;
    float d[8], g[8], u[8];
    load_eight(d, dy + i);
    load_eight(g, gate + i);
    load_eight(u, up + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        float s = sigmoid(g[j]);
        u[j] *= d[j] * s * (1.0f + g[j] * (1.0f - s));
        d[j] *= g[j] * s;
    }
    store_eight(dgate + i, u);
    store_eight(dup + i, d);
}

// Sums in f64: a thread strides over the whole array, a block adds in a fixed tree, one more block adds the blocks.
constexpr uint32_t most_partials = 1024, per_partial = 4096;

__global__ void __launch_bounds__(block_threads) squares_kernel(const float* __restrict__ x, size_t len, double* partial) {
    double sum = 0;
    for (size_t i = size_t(blockIdx.x) * block_threads + threadIdx.x; i < len; i += size_t(gridDim.x) * block_threads) sum += double(x[i]) * x[i];
    sum = block_sum<block_threads>(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(block_threads) add_partials_kernel(const double* __restrict__ partial, uint32_t count, double* to) {
    double sum = 0;
    for (uint32_t i = threadIdx.x; i < count; i += block_threads) sum += partial[i];
    sum = block_sum<block_threads>(sum);
    if (threadIdx.x == 0) *to = sum;
}

// Grid features / 256, 256 threads.
template <class T> __global__ void __launch_bounds__(block_threads) column_kernel(const T* __restrict__ x, uint32_t features, size_t stride, uint32_t token, float* to) {
    uint32_t f = blockIdx.x * block_threads + threadIdx.x;
    if (f < features) to[f] = to_float(x[f * stride + token]);
}

uint32_t partials(uint64_t len) { return uint32_t(min(uint64_t(most_partials), (len + per_partial - 1) / per_partial)); }

// Runs launch(zero of the element type, grid, elements) on activations of one type, shape and stride: to an element-wise
// pass they are arrays, of which a thread takes eight elements.
template <class F> chtsl_status by_eight(std::initializer_list<const chtsl_act*> all, F launch) {
    const chtsl_act& first = **all.begin();
    for (const chtsl_act* x : all) {
        CHTSL_TRY(check_act(*x, first.features, first.tokens));
        if (x->type != first.type) return CHTSL_UNSUPPORTED;
        if (x->stride != first.stride) return CHTSL_BAD_SHAPE;
    }
    size_t n = size_t(first.features) * first.stride, blocks = (n / 8 + block_threads - 1) / block_threads;
    if (blocks > largest_extent) return CHTSL_TOO_LARGE;
    if (n == 0) return CHTSL_OK;
    dim3 grid{unsigned(blocks)};
    if (first.type == CHTSL_BF16) launch(bf16{}, grid, n);
    else launch(float{}, grid, n);
    return launch_status();
}

}  // namespace

chtsl_status CHTSL_SYMBOL(elementwise_cast)(chtsl_matrix from, chtsl_matrix to, chtsl_stream stream) {
    if (from.rows != to.rows || from.cols != to.cols || from.stride < from.cols || to.stride < to.cols) return CHTSL_BAD_SHAPE;
    if (from.type != CHTSL_F32 || (to.type != CHTSL_F32 && to.type != CHTSL_BF16)) return CHTSL_UNSUPPORTED;
    uint32_t tiles = (to.stride + block_threads - 1) / block_threads;
    if (from.stride > largest_extent || to.stride > largest_extent || uint64_t(tiles) * to.rows > largest_extent) return CHTSL_TOO_LARGE;
    if (tiles == 0 || to.rows == 0) return CHTSL_OK;
    if (!from.data || !to.data) return CHTSL_BAD_SHAPE;
    dim3 grid(tiles * to.rows), block(block_threads);
    auto on = static_cast<cudaStream_t>(stream);
    auto source = data<float>(from);
    if (to.type == CHTSL_BF16) LAUNCH(cast_kernel<bf16>, grid, block, 0, on, source, from.stride, from.cols, data<bf16>(to), to.stride, tiles);
    else LAUNCH(cast_kernel<float>, grid, block, 0, on, source, from.stride, from.cols, data<float>(to), to.stride, tiles);
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(elementwise_add)(chtsl_act a, chtsl_act b, chtsl_act y, chtsl_stream stream) {
    return by_eight({&a, &b, &y}, [&](auto zero, dim3 grid, size_t n) {
        using T = decltype(zero);
        LAUNCH(add_kernel<T>, grid, dim3(block_threads), 0, static_cast<cudaStream_t>(stream), n, data<T>(a), data<T>(b), data<T>(y));
    });
}

chtsl_status CHTSL_SYMBOL(elementwise_swiglu_forward)(chtsl_act gate, chtsl_act up, chtsl_act y, chtsl_stream stream) {
    return by_eight({&gate, &up, &y}, [&](auto zero, dim3 grid, size_t n) {
        using T = decltype(zero);
        LAUNCH(swiglu_forward_kernel<T>, grid, dim3(block_threads), 0, static_cast<cudaStream_t>(stream), n, data<T>(gate), data<T>(up), data<T>(y));
    });
}

chtsl_status CHTSL_SYMBOL(elementwise_swiglu_backward)(chtsl_act dy, chtsl_act gate, chtsl_act up, chtsl_act dgate, chtsl_act dup, chtsl_stream stream) {
    return by_eight({&dy, &gate, &up, &dgate, &dup}, [&](auto zero, dim3 grid, size_t n) {
        using T = decltype(zero);
        LAUNCH(swiglu_backward_kernel<T>, grid, dim3(block_threads), 0, static_cast<cudaStream_t>(stream), n, data<T>(dy), data<T>(gate), data<T>(up), data<T>(dgate), data<T>(dup));
    });
}

uint64_t CHTSL_SYMBOL(elementwise_partials)(uint64_t len) { return partials(len); }

chtsl_status CHTSL_SYMBOL(elementwise_sum_squares)(const float* x, uint64_t len, double* partial, double* to, chtsl_stream stream) {
    if (!to || (len && (!x || !partial))) return CHTSL_BAD_SHAPE;
    auto on = static_cast<cudaStream_t>(stream);
    uint32_t blocks = partials(len);
    if (blocks) {
        LAUNCH(squares_kernel, dim3(blocks), dim3(block_threads), 0, on, x, size_t(len), partial);
        CHTSL_TRY(launch_status());
    }
    LAUNCH(add_partials_kernel, dim3(1), dim3(block_threads), 0, on, partial, blocks, to);
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(elementwise_column)(chtsl_act x, uint32_t token, float* to, chtsl_stream stream) {
    CHTSL_TRY(check_act(x, x.features, x.tokens));
    if (token >= x.tokens || (x.features && !to)) return CHTSL_BAD_SHAPE;
    if (x.features == 0) return CHTSL_OK;
    dim3 grid((x.features + block_threads - 1) / block_threads);
    auto on = static_cast<cudaStream_t>(stream);
    if (x.type == CHTSL_BF16) LAUNCH(column_kernel<bf16>, grid, dim3(block_threads), 0, on, data<bf16>(x), x.features, size_t(x.stride), token, to);
    else LAUNCH(column_kernel<float>, grid, dim3(block_threads), 0, on, data<float>(x), x.features, size_t(x.stride), token, to);
    return launch_status();
}
