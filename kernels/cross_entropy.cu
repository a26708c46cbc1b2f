// cross_entropy.cu - softmax cross-entropy over the logits of a chunk of tokens. Contract: include/cross_entropy.h.
// The logits are feature-major too: one row per word of the vocabulary, tokens contiguous, so the softmax runs down
// columns. A block owns 64 tokens and a share of the vocabulary (8 threads side by side with 8 tokens each, 32 groups
// down the rows) and keeps a running maximum and sum; shares are combined in order. Two reads and one write of the
// logits per training step; they never leave the chunk.
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"
#include "cross_entropy.h"

namespace {

constexpr uint32_t tile_tokens = 64, across = tile_tokens / 8, groups = 32, block_threads = across * groups;
constexpr uint32_t rows_per_share = 2048;

uint32_t shares_of(uint32_t vocab) { return (vocab + rows_per_share - 1) / rows_per_share; }

// Running (maximum, sum of exp(x - maximum)); the empty one is (-inf, 0).
DEVICE void join(float& max, float& sum, float other_max, float other_sum) {
    float top = fmaxf(max, other_max);
    if (top == -INFINITY) return;
    sum = sum * __expf(max - top) + other_sum * __expf(other_max - top);
    max = top;
}

// Grid (stride / 64, shares), 256 threads. partial[2 share][token] maxima, partial[2 share + 1][token] sums.
template <class T> __global__ void __launch_bounds__(block_threads, 4) share_kernel(const T* __restrict__ logits, size_t stride, uint32_t vocab, float* partial) {
    __shared__ float shared[2][groups][tile_tokens];
    uint32_t column = threadIdx.x % across * 8, group = threadIdx.x / across, n = blockIdx.x * tile_tokens + column;
    uint32_t first = blockIdx.y * rows_per_share, last = min(vocab, first + rows_per_share);
    float max[8], sum[8] = {}, x[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) max[j] = -INFINITY;
    for (uint32_t v = first + group; v < last; v += groups) {
        load_eight(x, logits + v * stride + n);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            // One exponential per element: either the sum so far shrinks or the newcomer does.
            float ahead = x[j] - max[j], e = __expf(-fabsf(ahead));
            sum[j] = ahead > 0 ? sum[j] * e + 1.0f : sum[j] + e;
            max[j] = fmaxf(max[j], x[j]);
        }
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) shared[0][group][column + j] = max[j], shared[1][group][column + j] = sum[j];
    __syncthreads();
    if (threadIdx.x >= tile_tokens) return;
    float top = -INFINITY, total = 0;
    for (uint32_t g = 0; g < groups; ++g) join(top, total, shared[0][g][threadIdx.x], shared[1][g][threadIdx.x]);
    size_t at = size_t(2 * blockIdx.y) * stride + blockIdx.x * tile_tokens + threadIdx.x;
    partial[at] = top;
    partial[at + stride] = total;
}

constexpr uint32_t finish_threads = 256;

// One block. A thread combines the shares of its tokens in order; losses are added over threads in a fixed tree.
template <class T> __global__ void __launch_bounds__(finish_threads) finish_kernel(const T* __restrict__ logits, size_t stride, uint32_t vocab, uint32_t tokens, const uint32_t* __restrict__ targets, const float* __restrict__ partial, uint32_t shares, float* lse, double* loss) {
    double sum = 0;
    for (uint32_t n = threadIdx.x; n < tokens; n += finish_threads) {
        float top = -INFINITY, total = 0;
        for (uint32_t s = 0; s < shares; ++s) join(top, total, partial[size_t(2 * s) * stride + n], partial[size_t(2 * s + 1) * stride + n]);
        double value = double(top) + log(double(total));
        lse[n] = float(value);
        uint32_t target = targets[n];
        if (target < vocab) sum += value - double(to_float(logits[target * stride + n]));
    }
    sum = block_sum<finish_threads>(sum);
    if (threadIdx.x == 0) *loss += sum;
}

// Grid (stride / 64, vocabulary / 1024), 256 threads.
constexpr uint32_t rows_per_block = 1024;
template <class T> __global__ void __launch_bounds__(block_threads, 4) gradient_kernel(T* logits, size_t stride, uint32_t vocab, uint32_t tokens, const uint32_t* __restrict__ targets, const float* __restrict__ lse, float scale) {
    uint32_t n = blockIdx.x * tile_tokens + threadIdx.x % across * 8, group = threadIdx.x / across;
    uint32_t first = blockIdx.y * rows_per_block, last = min(vocab, first + rows_per_block);
    uint32_t target[8];
    float normaliser[8], factor[8];
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        bool inside = n + j < tokens;
        target[j] = inside ? targets[n + j] : CHTSL_NO_TARGET;
        bool live = target[j] < vocab;
        normaliser[j] = live ? lse[n + j] : 0.0f;
        factor[j] = live ? scale : 0.0f;
    }
    for (uint32_t v = first + group; v < last; v += groups) {
        float x[8];
        load_eight(x, logits + v * stride + n);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            // A position without a target must give zero, whatever its logits are.
            float p = factor[j] != 0.0f ? __expf(x[j] - normaliser[j]) : 0.0f;
            x[j] = factor[j] * (p - (target[j] == v ? 1.0f : 0.0f));
        }
        store_eight(logits + v * stride + n, x);
    }
}

template <class T> chtsl_status loss_of(const chtsl_act& logits, const uint32_t* targets, float* lse, float* partial, double* loss, cudaStream_t stream) {
    uint32_t shares = shares_of(logits.features);
    LAUNCH(share_kernel<T>, dim3(logits.stride / tile_tokens, shares), dim3(block_threads), 0, stream, data<T>(logits), size_t(logits.stride), logits.features, partial);
    CHTSL_TRY(launch_status());
    LAUNCH(finish_kernel<T>, dim3(1), dim3(finish_threads), 0, stream, data<T>(logits), size_t(logits.stride), logits.features, logits.tokens, targets, partial, shares, lse, loss);
    return launch_status();
}

template <class T> chtsl_status gradient_of(const chtsl_act& logits, const uint32_t* targets, const float* lse, float scale, cudaStream_t stream) {
    dim3 grid(logits.stride / tile_tokens, (logits.features + rows_per_block - 1) / rows_per_block);
    LAUNCH(gradient_kernel<T>, grid, dim3(block_threads), 0, stream, data<T>(logits), size_t(logits.stride), logits.features, logits.tokens, targets, lse, scale);
    return launch_status();
}

}  // namespace

uint64_t CHTSL_SYMBOL(cross_entropy_partials)(uint32_t vocab, uint32_t stride) { return uint64_t(2) * shares_of(vocab) * stride; }

chtsl_status CHTSL_SYMBOL(cross_entropy_loss)(chtsl_act logits, const uint32_t* targets, float* lse, float* partial, double* loss, chtsl_stream stream) {
    CHTSL_TRY(check_act(logits, logits.features, logits.tokens));
    if (logits.features == 0 || logits.tokens == 0) return CHTSL_OK;
    if (!targets || !lse || !partial || !loss) return CHTSL_BAD_SHAPE;
    auto on = static_cast<cudaStream_t>(stream);
    return logits.type == CHTSL_BF16 ? loss_of<bf16>(logits, targets, lse, partial, loss, on) : loss_of<float>(logits, targets, lse, partial, loss, on);
}

chtsl_status CHTSL_SYMBOL(cross_entropy_gradient)(chtsl_act logits, const uint32_t* targets, const float* lse, float scale, chtsl_stream stream) {
    CHTSL_TRY(check_act(logits, logits.features, logits.tokens));
    if (logits.features == 0 || logits.tokens == 0) return CHTSL_OK;
    if (!targets || !lse) return CHTSL_BAD_SHAPE;
    if ((logits.features + rows_per_block - 1) / rows_per_block > largest_grid_y) return CHTSL_TOO_LARGE;
    auto on = static_cast<cudaStream_t>(stream);
    return logits.type == CHTSL_BF16 ? gradient_of<bf16>(logits, targets, lse, scale, on) : gradient_of<float>(logits, targets, lse, scale, on);
}
