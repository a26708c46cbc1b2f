// embedding.cu - token embedding, forward and backward. Contract: include/embedding.h.
// The table has one row per token id, activations one row per feature: both passes turn tiles of 32 x 32 through
// shared memory, so that either side is read and written in whole lines. The gradient of a row is summed by one block
// in token order: no atomics. An id that is never seen costs nothing.
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"
#include "embedding.h"

namespace {

constexpr uint32_t tile = 32, tile_rows = 8;

// Grid (ceil(stride / 32), ceil(F / 32)), block 32 x 8. Padding tokens become zero.
template <class T> __global__ void __launch_bounds__(tile * tile_rows) embedding_forward_kernel(const float* __restrict__ table, uint32_t features, const uint32_t* __restrict__ ids, uint32_t tokens, T* __restrict__ x, size_t stride) {
    __shared__ float turned[tile][tile + 1];
    uint32_t first_token = blockIdx.x * tile, first_feature = blockIdx.y * tile;
    for (uint32_t i = threadIdx.y; i < tile; i += tile_rows) {
        uint32_t n = first_token + i, f = first_feature + threadIdx.x;
        turned[i][threadIdx.x] = n < tokens && f < features ? table[size_t(ids[n]) * features + f] : 0.0f;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.y; i < tile; i += tile_rows) {
        uint32_t f = first_feature + i;
        if (f < features) x[f * stride + first_token + threadIdx.x] = from_float<T>(turned[threadIdx.x][i]);
    }
}

// rows[n, f] = x[f, n]. Grid (ceil(N / 32), ceil(F / 32)), block 32 x 8.
template <class T> __global__ void __launch_bounds__(tile * tile_rows) turn_kernel(const T* __restrict__ x, size_t stride, uint32_t features, uint32_t tokens, T* __restrict__ rows) {
    __shared__ float turned[tile][tile + 1];
    uint32_t first_token = blockIdx.x * tile, first_feature = blockIdx.y * tile;
    for (uint32_t i = threadIdx.y; i < tile; i += tile_rows) {
        uint32_t f = first_feature + i;
        turned[i][threadIdx.x] = f < features ? to_float(x[f * stride + first_token + threadIdx.x]) : 0.0f;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.y; i < tile; i += tile_rows) {
        uint32_t n = first_token + i, f = first_feature + threadIdx.x;
        if (n < tokens && f < features) rows[size_t(n) * features + f] = from_float<T>(turned[threadIdx.x][i]);
    }
}

constexpr uint32_t sum_threads = 128;

// Grid (distinct ids, ceil(F / 128)), 128 threads: a thread sums one feature of one id.
template <class T> __global__ void __launch_bounds__(sum_threads) embedding_sum_kernel(const T* __restrict__ rows, uint32_t features, const uint32_t* __restrict__ distinct, const uint32_t* __restrict__ starts, const uint32_t* __restrict__ tokens, float* dtable) {
    uint32_t f = blockIdx.y * sum_threads + threadIdx.x, id = distinct[blockIdx.x];
    if (f >= features) return;
    float sum = 0;
#pragma unroll 4
    for (uint32_t i = starts[blockIdx.x]; i < starts[blockIdx.x + 1]; ++i) sum += to_float(rows[size_t(tokens[i]) * features + f]);
    dtable[size_t(id) * features + f] += sum;
}

template <class T> chtsl_status backward(const chtsl_act& dx, uint32_t count, const uint32_t* distinct, const uint32_t* starts, const uint32_t* tokens, T* rows, float* dtable, cudaStream_t stream) {
    dim3 grid((dx.tokens + tile - 1) / tile, (dx.features + tile - 1) / tile);
    LAUNCH(turn_kernel<T>, grid, dim3(tile, tile_rows), 0, stream, data<T>(dx), size_t(dx.stride), dx.features, dx.tokens, rows);
    CHTSL_TRY(launch_status());
    LAUNCH(embedding_sum_kernel<T>, dim3(count, (dx.features + sum_threads - 1) / sum_threads), dim3(sum_threads), 0, stream, rows, dx.features, distinct, starts, tokens, dtable);
    return launch_status();
}

}  // namespace

chtsl_status CHTSL_SYMBOL(embedding_forward)(const float* table, uint32_t vocab, const uint32_t* ids, chtsl_act x, chtsl_stream stream) {
    CHTSL_TRY(check_act(x, x.features, x.tokens));
    if (x.features == 0 || x.tokens == 0) return CHTSL_OK;
    if (!table || !ids || vocab == 0) return CHTSL_BAD_SHAPE;
    dim3 grid(x.stride / tile, (x.features + tile - 1) / tile), block(tile, tile_rows);
    if (grid.y > largest_grid_y) return CHTSL_TOO_LARGE;
    auto on = static_cast<cudaStream_t>(stream);
    if (x.type == CHTSL_BF16) LAUNCH(embedding_forward_kernel<bf16>, grid, block, 0, on, table, x.features, ids, x.tokens, data<bf16>(x), size_t(x.stride));
    else LAUNCH(embedding_forward_kernel<float>, grid, block, 0, on, table, x.features, ids, x.tokens, data<float>(x), size_t(x.stride));
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(embedding_backward)(chtsl_act dx, uint32_t count, const uint32_t* distinct, const uint32_t* starts, const uint32_t* tokens, void* rows, uint32_t vocab, float* dtable, chtsl_stream stream) {
    CHTSL_TRY(check_act(dx, dx.features, dx.tokens));
    if (dx.features == 0 || dx.tokens == 0 || count == 0) return CHTSL_OK;
    if (!distinct || !starts || !tokens || !rows || !dtable || count > vocab || count > dx.tokens) return CHTSL_BAD_SHAPE;
    if ((dx.features + tile - 1) / tile > largest_grid_y || count > largest_extent) return CHTSL_TOO_LARGE;
    auto on = static_cast<cudaStream_t>(stream);
    return dx.type == CHTSL_BF16 ? backward(dx, count, distinct, starts, tokens, static_cast<bf16*>(rows), dtable, on)
                                 : backward(dx, count, distinct, starts, tokens, static_cast<float*>(rows), dtable, on);
}
