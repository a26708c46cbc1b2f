// rmsnorm.cu - RMSNorm over features of feature-major activations. Contract: include/rmsnorm.h.
// A block owns 64 tokens: 8 threads side by side take eight tokens each (one 128-byte line of bf16), 32 groups of them
// walk the features. Sums over features are added over the groups in order through shared memory; the second pass
// finds the tile in cache. `mean` is 1 / features: a division per token would cost a call. Sums over tokens (dgain) leave one partial per tile and feature, added in order.
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"
#include "rmsnorm.h"

namespace {

constexpr uint32_t tile_tokens = 64, across = tile_tokens / 8, groups = 32, block_threads = across * groups;

// Adds `sum` of the same eight tokens over all groups; every thread receives the totals of its tokens.
DEVICE void sum_over_groups(float (&sum)[8], float (*shared)[tile_tokens]) {
    uint32_t column = threadIdx.x % across * 8, group = threadIdx.x / across;
#pragma unroll
    for (int j = 0; j < 8; ++j) shared[group][column + j] = sum[j];
    __syncthreads();
    if (threadIdx.x < tile_tokens) {
        float total = 0;
        for (uint32_t g = 0; g < groups; ++g) total += shared[g][threadIdx.x];
        shared[0][threadIdx.x] = total;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] = shared[0][column + j];
}

// Grid stride / 64, 256 threads.
template <class T>
__global__ void __launch_bounds__(block_threads, 4) rmsnorm_forward_kernel(const T* __restrict__ x, size_t stride, uint32_t features, uint32_t tokens, const float* __restrict__ gain, float mean, float eps, T* __restrict__ y, float* __restrict__ rstd) {
    __shared__ float shared[groups][tile_tokens];
    uint32_t n = blockIdx.x * tile_tokens + threadIdx.x % across * 8, group = threadIdx.x / across;
    float sum[8] = {}, v[8];
    for (uint32_t f = group; f < features; f += groups) {
        load_eight(v, x + f * stride + n);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[j] += v[j] * v[j];
    }
    sum_over_groups(sum, shared);
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) sum[j] = n + j < tokens ? rsqrtf(sum[j] * mean + eps) : 0.0f;
    if (group == 0) store_eight(rstd + n, sum);
    for (uint32_t f = group; f < features; f += groups) {
        load_eight(v, x + f * stride + n);
        float g = gain[f];
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] *= sum[j] * g;
        store_eight(y + f * stride + n, v);
    }
}

// Grid stride / 64, 256 threads. partial[f * tiles + tile].
template <class T>
__global__ void __launch_bounds__(block_threads, 4) rmsnorm_backward_kernel(const T* __restrict__ dy, const T* __restrict__ x, size_t stride, uint32_t features, const float* __restrict__ gain, const float* __restrict__ rstd, float mean, T* dx, float* partial) {
    __shared__ float shared[groups][tile_tokens];
    uint32_t n = blockIdx.x * tile_tokens + threadIdx.x % across * 8, group = threadIdx.x / across;
    float r[8], sum[8] = {}, d[8], v[8];
    load_eight(r, rstd + n);
    for (uint32_t f = group; f < features; f += groups) {
        load_eight(d, dy + f * stride + n);
        load_eight(v, x + f * stride + n);
        float g = gain[f];
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[j] += d[j] * g * (v[j] * r[j]);
    }
    sum_over_groups(sum, shared);
    // Groups walk the same number of rounds, so that whole warps stay together for the sums over tokens.
    for (uint32_t first = 0; first < features; first += groups) {
        uint32_t f = first + group;
        bool inside = f < features;
        float token_sum = 0;
        if (inside) {
            float before[8], g = gain[f];
            load_eight(d, dy + f * stride + n);
            load_eight(v, x + f * stride + n);
            load_eight(before, dx + f * stride + n);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                float h = v[j] * r[j];
                token_sum += d[j] * h;
                before[j] += r[j] * (d[j] * g - h * sum[j] * mean);
            }
            store_eight(dx + f * stride + n, before);
        }
        token_sum = warp_sum<across>(token_sum);
        if (inside && threadIdx.x % across == 0) partial[size_t(f) * gridDim.x + blockIdx.x] = token_sum;
    }
}

constexpr uint32_t sum_warps = 4;

// Grid features / 4, 128 threads: a warp adds the tiles of one feature in f64.
__global__ void __launch_bounds__(32 * sum_warps) rmsnorm_gain_kernel(const float* __restrict__ partial, uint32_t tiles, uint32_t features, float* dgain) {
    uint32_t lane = threadIdx.x % 32, f = blockIdx.x * sum_warps + threadIdx.x / 32;
    if (f >= features) return;
    double sum = 0;
    for (uint32_t i = lane; i < tiles; i += 32) sum += partial[size_t(f) * tiles + i];
    sum = warp_sum(sum);
    if (lane == 0) dgain[f] += float(sum);
}

chtsl_status check(const chtsl_act& x, const chtsl_act& y, const float* gain, const chtsl_act& rstd) {
    CHTSL_TRY(check_act(x, x.features, x.tokens));
    CHTSL_TRY(check_act(y, x.features, x.tokens));
    CHTSL_TRY(check_act(rstd, 1, x.tokens));
    if (y.type != x.type || rstd.type != CHTSL_F32) return CHTSL_UNSUPPORTED;
    if (y.stride != x.stride || rstd.stride != x.stride || (x.features && !gain)) return CHTSL_BAD_SHAPE;
    return CHTSL_OK;
}

}  // namespace

uint64_t CHTSL_SYMBOL(rmsnorm_partials)(uint32_t features, uint32_t tokens) { return uint64_t(features) * ((uint64_t(tokens) + 127) / 128 * 128 / tile_tokens); }

chtsl_status CHTSL_SYMBOL(rmsnorm_forward)(chtsl_act x, const float* gain, float eps, chtsl_act y, chtsl_act rstd, chtsl_stream stream) {
    CHTSL_TRY(check(x, y, gain, rstd));
    if (x.features == 0 || x.tokens == 0) return CHTSL_OK;
    dim3 grid(x.stride / tile_tokens), block(block_threads);
    auto on = static_cast<cudaStream_t>(stream);
    auto r = data<float>(rstd);
    if (x.type == CHTSL_BF16) LAUNCH(rmsnorm_forward_kernel<bf16>, grid, block, 0, on, data<bf16>(x), size_t(x.stride), x.features, x.tokens, gain, 1.0f / float(x.features), eps, data<bf16>(y), r);
    else LAUNCH(rmsnorm_forward_kernel<float>, grid, block, 0, on, data<float>(x), size_t(x.stride), x.features, x.tokens, gain, 1.0f / float(x.features), eps, data<float>(y), r);
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(rmsnorm_backward)(chtsl_act dy, chtsl_act x, const float* gain, chtsl_act rstd, chtsl_act dx, float* dgain, float* partial, chtsl_stream stream) {
    CHTSL_TRY(check(x, dy, gain, rstd));
    CHTSL_TRY(check(x, dx, gain, rstd));
    if (x.features && (!dgain || (x.tokens && !partial))) return CHTSL_BAD_SHAPE;
    if (x.features == 0 || x.tokens == 0) return CHTSL_OK;
    uint32_t tiles = x.stride / tile_tokens;
    dim3 grid(tiles), block(block_threads);
    auto on = static_cast<cudaStream_t>(stream);
    auto r = data<float>(rstd);
    if (x.type == CHTSL_BF16) LAUNCH(rmsnorm_backward_kernel<bf16>, grid, block, 0, on, data<bf16>(dy), data<bf16>(x), size_t(x.stride), x.features, gain, r, 1.0f / float(x.features), data<bf16>(dx), partial);
    else LAUNCH(rmsnorm_backward_kernel<float>, grid, block, 0, on, data<float>(dy), data<float>(x), size_t(x.stride), x.features, gain, r, 1.0f / float(x.features), data<float>(dx), partial);
    CHTSL_TRY(launch_status());
    LAUNCH(rmsnorm_gain_kernel, dim3((x.features + sum_warps - 1) / sum_warps), dim3(32 * sum_warps), 0, on, partial, tiles, x.features, dgain);
    return launch_status();
}
