// attention.cu - causal attention with rotary positions, forward and backward. Contract: include/attention.h.
//   v1  tiles of 64 queries x 64 keys in shared memory as f32, products by FMA on 4 x 4 register blocks, running
//       softmax (Milakov & Gimelshein, 2018; tiling as Dao et al., 2022)   <- default
// Feature-major operands need no transposition: both factors of q'k have the summed feature as their row. Rotation
// happens on the way into shared memory and back out of it. Backward recomputes probabilities from lse, one kernel for
// dk and dv by key tiles, one for dq by query tiles, so that every sum has one owner. All arithmetic is f32.
#include <cmath>
#include <initializer_list>
#include <type_traits>
#include "attention.h"
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"

namespace {

constexpr uint32_t tile = 64, block_threads = 256, most_head_dim = 128;
constexpr uint32_t row = tile + 4;  // floats from row to row in shared memory: 16-byte accesses meet no bank twice

// Where a block works.
struct Place {
    uint32_t first;  // first position of the tile in its sequence
    uint32_t head;
    size_t token;  // first token of the sequence
};

DEVICE Place place_of_block(const chtsl_attention& a) {
    uint32_t tiles = (a.seq_len + tile - 1) / tile, rest = blockIdx.x / tiles;
    return {blockIdx.x % tiles * tile, rest % a.heads, size_t(rest / a.heads) * a.seq_len};
}

DEVICE uint32_t start_of(const chtsl_attention& a, size_t token) { return a.starts ? a.starts[token] : 0; }

// Brings positions first .. first + 64 of one head into shared memory, zeros beyond the sequence.
template <class T> DEVICE void fetch(float* to, const T* x, size_t stride, const chtsl_attention& a, const Place& p, uint32_t first) {
    for (uint32_t i = threadIdx.x; i < a.head_dim * tile; i += block_threads) {
        uint32_t f = i / tile, n = i % tile;
        to[f * row + n] = first + n < a.seq_len ? to_float(x[(p.head * a.head_dim + f) * stride + p.token + first + n]) : 0.0f;
    }
}

// The same, rotated to its positions and scaled.
template <class T> DEVICE void fetch_rotated(float* to, const T* x, size_t stride, const chtsl_attention& a, const Place& p, uint32_t first, float scale) {
    uint32_t half = a.head_dim / 2;
    for (uint32_t i = threadIdx.x; i < half * tile; i += block_threads) {
        uint32_t f = i / tile, n = i % tile, position = first + n;
        float low = 0, high = 0;
        if (position < a.seq_len) {
            const T* from = x + (p.head * a.head_dim + f) * stride + p.token + position;
            float u = to_float(from[0]), v = to_float(from[half * stride]);
            float c = a.rope[2 * (size_t(position) * half + f)], s = a.rope[2 * (size_t(position) * half + f) + 1];
            low = u * c - v * s, high = v * c + u * s;
        }
        to[f * row + n] = scale * low;
        to[(f + half) * row + n] = scale * high;
    }
}

// s[i][j] = sum_f a[f][first_row + i] b[f][first_column + j]: a thread's 4 x 4 block of a product of tiles.
DEVICE void product(float (&s)[4][4], const float* a, const float* b, uint32_t head_dim, uint32_t first_row, uint32_t first_column) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i][j] = 0;
    for (uint32_t f = 0; f < head_dim; ++f) {
        float4 p = *reinterpret_cast<const float4*>(a + f * row + first_row), q = *reinterpret_cast<const float4*>(b + f * row + first_column);
        const float left[4] = {p.x, p.y, p.z, p.w}, right[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) s[i][j] += left[i] * right[j];
    }
}

// sum[i][j] += sum_t weights[first_row + i][t] x[column + 16 j][t] over the 64 t of a tile.
template <int per> DEVICE void weigh(float (&sum)[4][per], const float* weights, const float* x, uint32_t head_dim, uint32_t first_row, uint32_t column) {
    for (uint32_t t = 0; t < tile; t += 4) {
        float4 w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = *reinterpret_cast<const float4*>(weights + (first_row + i) * row + t);
#pragma unroll
        for (int j = 0; j < per; ++j) {
            if (column + 16 * j >= head_dim) continue;
            float4 v = *reinterpret_cast<const float4*>(x + (column + 16 * j) * row + t);
#pragma unroll
            for (int i = 0; i < 4; ++i) sum[i][j] += w[i].x * v.x + w[i].y * v.y + w[i].z * v.z + w[i].w * v.w;
        }
    }
}

DEVICE void put(float* to, float a, float b, float c, float d) { *reinterpret_cast<float4*>(to) = float4{a, b, c, d}; }

// Writes a thread's 4 x 4 block transposed: to[column][row].
DEVICE void put_transposed(float* to, const float (&s)[4][4], uint32_t y, uint32_t x) {
#pragma unroll
    for (int j = 0; j < 4; ++j) put(to + (x + j) * row + y, s[0][j], s[1][j], s[2][j], s[3][j]);
}

// Writes the sums of weigh as a [feature][position] tile. In 16-byte pieces it would cost registers that are not there.
template <int per> DEVICE void put_features(float* to, const float (&sum)[4][per], uint32_t head_dim, uint32_t first_row, uint32_t column) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < per; ++j)
            if (column + 16 * j < head_dim) to[(column + 16 * j) * row + first_row + i] = sum[i][j];
}

// Whether the query at position q sees the key at position k.
DEVICE bool sees(const chtsl_attention& a, const Place& p, uint32_t q, uint32_t k) {
    return q < a.seq_len && k <= q && k >= start_of(a, p.token + q);
}

// Writes a [feature][position] tile from shared memory, turned back by the rotation if `rotated`.
template <class T> DEVICE void store(const float* from, T* x, size_t stride, const chtsl_attention& a, const Place& p, bool rotated, float scale) {
    uint32_t half = a.head_dim / 2;
    for (uint32_t i = threadIdx.x; i < half * tile; i += block_threads) {
        uint32_t f = i / tile, n = i % tile, position = p.first + n;
        if (position >= a.seq_len) continue;
        float low = scale * from[f * row + n], high = scale * from[(f + half) * row + n];
        if (rotated) {
            float c = a.rope[2 * (size_t(position) * half + f)], s = a.rope[2 * (size_t(position) * half + f) + 1];
            float turned = low * c + high * s;
            high = high * c - low * s, low = turned;
        }
        T* to = x + (p.head * a.head_dim + f) * stride + p.token + position;
        to[0] = from_float<T>(low);
        to[half * stride] = from_float<T>(high);
    }
}

// Operands of a pass.
template <class T> struct Heads {
    const T *q, *k, *v, *out, *dout;
    size_t q_stride, k_stride, v_stride, out_stride, dout_stride;
    float* lse;
    size_t lse_stride;
    T *dq, *dk, *dv;
    size_t dq_stride, dk_stride, dv_stride;
    float scale;  // 1 / sqrt(head_dim)
};

// Grid tiles * heads * sequences, 256 threads as 16 x 16: thread (y, x) has queries 4 y .. 4 y + 3 and, of a product of
// tiles, keys 4 x .. 4 x + 3; of the output, features x, x + 16, ... Shared: q, k, v tiles and the probabilities.
template <class T, int per> __global__ void __launch_bounds__(block_threads, 2) attention_forward_kernel(chtsl_attention a, Heads<T> h, T* out) {
    DYNAMIC_SHARED(float, shared);
    float *q = shared, *k = q + a.head_dim * row, *v = k + a.head_dim * row, *weights = v + a.head_dim * row;
    Place p = place_of_block(a);
    uint32_t x = threadIdx.x % 16, first_row = threadIdx.x / 16 * 4;
    fetch_rotated(q, h.q, h.q_stride, a, p, p.first, h.scale);
    float sum[4][per] = {}, max[4], total[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) max[i] = -INFINITY;
    // Starts do not decrease within a sequence: no query of the tile looks before the first one's document.
    uint32_t begin = start_of(a, p.token + p.first) / tile * tile;
    for (uint32_t first = begin; first <= p.first; first += tile) {
        __syncthreads();  // the tiles of the round before have been read
        fetch_rotated(k, h.k, h.k_stride, a, p, first, 1.0f);
        fetch(v, h.v, h.v_stride, a, p, first);
        __syncthreads();
        float s[4][4];
        product(s, q, k, a.head_dim, first_row, 4 * x);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float top = max[i];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (!sees(a, p, p.first + first_row + i, first + 4 * x + j)) s[i][j] = -INFINITY;
                top = fmaxf(top, s[i][j]);
            }
            top = warp_max<16>(top);
            bool any = top != -INFINITY;  // else nothing is seen yet
            float shrink = any ? __expf(max[i] - top) : 1.0f, more = 0;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                s[i][j] = any ? __expf(s[i][j] - top) : 0.0f;
                more += s[i][j];
            }
            max[i] = top;
            total[i] = total[i] * shrink + warp_sum<16>(more);
#pragma unroll
            for (int j = 0; j < per; ++j) sum[i][j] *= shrink;
            put(weights + (first_row + i) * row + 4 * x, s[i][0], s[i][1], s[i][2], s[i][3]);
        }
        __syncthreads();
        weigh<per>(sum, weights, v, a.head_dim, first_row, x);
    }
    __syncthreads();
    // The output goes through the query tile, to leave in whole lines.
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        uint32_t position = p.first + first_row + i;
        float inverse = position < a.seq_len ? 1.0f / total[i] : 0.0f;
#pragma unroll
        for (int j = 0; j < per; ++j) sum[i][j] *= inverse;
        if (x == 0 && position < a.seq_len) h.lse[p.head * h.lse_stride + p.token + position] = max[i] + logf(total[i]);
    }
    put_features(q, sum, a.head_dim, first_row, x);
    __syncthreads();
    store(q, out, h.out_stride, a, p, false, 1.0f);
}

// Brings lse and delta = <dout, out> of 64 queries into shared memory; needs the dout tile there.
template <class T> DEVICE void fetch_rows(float* lse, float* delta, const float* dout, const chtsl_attention& a, const Heads<T>& h, const Place& p, uint32_t first) {
    if (threadIdx.x >= tile) return;
    uint32_t position = first + threadIdx.x;
    float sum = 0;
    if (position < a.seq_len) {
        const T* out = h.out + p.head * a.head_dim * h.out_stride + p.token + position;
        for (uint32_t f = 0; f < a.head_dim; ++f) sum += dout[f * row + threadIdx.x] * to_float(out[f * h.out_stride]);
    }
    delta[threadIdx.x] = sum;
    lse[threadIdx.x] = position < a.seq_len ? h.lse[p.head * h.lse_stride + p.token + position] : 0.0f;
}

// Probabilities and score gradients of a thread's 4 queries x 4 keys.
template <class T>
DEVICE void recompute(float (&probability)[4][4], float (&gradient)[4][4], const chtsl_attention& a, const Place& p, const float* q, const float* k, const float* v, const float* dout, const float* lse, const float* delta, uint32_t first_query, uint32_t first_key, uint32_t y, uint32_t x) {
    product(probability, q, k, a.head_dim, y, x);
    product(gradient, dout, v, a.head_dim, y, x);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            bool seen = sees(a, p, first_query + y + i, first_key + x + j);
            probability[i][j] = seen ? __expf(probability[i][j] - lse[y + i]) : 0.0f;
            gradient[i][j] = probability[i][j] * (gradient[i][j] - delta[y + i]);
        }
}

// dk and dv of 64 keys: grid as forward, query tiles from the own one on.
template <class T, int per> __global__ void __launch_bounds__(block_threads, 2) attention_backward_keys_kernel(chtsl_attention a, Heads<T> h) {
    DYNAMIC_SHARED(float, shared);
    uint32_t size = a.head_dim * row;
    float *q = shared, *k = q + size, *v = k + size, *dout = v + size, *weights = dout + size, *lse = weights + tile * row, *delta = lse + tile;
    Place p = place_of_block(a);
    uint32_t x = threadIdx.x % 16, y = threadIdx.x / 16 * 4;
    fetch_rotated(k, h.k, h.k_stride, a, p, p.first, 1.0f);
    fetch(v, h.v, h.v_stride, a, p, p.first);
    float dk[4][per] = {}, dv[4][per] = {};
    for (uint32_t first = p.first; first < a.seq_len; first += tile) {
        __syncthreads();
        fetch_rotated(q, h.q, h.q_stride, a, p, first, h.scale);
        fetch(dout, h.dout, h.dout_stride, a, p, first);
        __syncthreads();
        fetch_rows(lse, delta, dout, a, h, p, first);
        __syncthreads();
        float probability[4][4], gradient[4][4];
        recompute<T>(probability, gradient, a, p, q, k, v, dout, lse, delta, first, p.first, y, 4 * x);
        put_transposed(weights, probability, y, 4 * x);
        __syncthreads();
        weigh<per>(dv, weights, dout, a.head_dim, y, x);
        __syncthreads();
        put_transposed(weights, gradient, y, 4 * x);
        __syncthreads();
        weigh<per>(dk, weights, q, a.head_dim, y, x);
    }
    __syncthreads();
    put_features(q, dk, a.head_dim, y, x);
    put_features(dout, dv, a.head_dim, y, x);
    __syncthreads();
    store(q, h.dk, h.dk_stride, a, p, true, 1.0f);
    store(dout, h.dv, h.dv_stride, a, p, false, 1.0f);
}

// dq of 64 queries: grid as forward, the same key tiles as forward.
template <class T, int per> __global__ void __launch_bounds__(block_threads, 2) attention_backward_queries_kernel(chtsl_attention a, Heads<T> h) {
    DYNAMIC_SHARED(float, shared);
    uint32_t size = a.head_dim * row;
    float *q = shared, *k = q + size, *v = k + size, *dout = v + size, *weights = dout + size, *lse = weights + tile * row, *delta = lse + tile;
    Place p = place_of_block(a);
    uint32_t x = threadIdx.x % 16, y = threadIdx.x / 16 * 4;
    fetch_rotated(q, h.q, h.q_stride, a, p, p.first, h.scale);
    fetch(dout, h.dout, h.dout_stride, a, p, p.first);
    __syncthreads();
    fetch_rows(lse, delta, dout, a, h, p, p.first);
    float dq[4][per] = {};
    uint32_t begin = start_of(a, p.token + p.first) / tile * tile;
    for (uint32_t first = begin; first <= p.first; first += tile) {
        __syncthreads();
        fetch_rotated(k, h.k, h.k_stride, a, p, first, 1.0f);
        fetch(v, h.v, h.v_stride, a, p, first);
        __syncthreads();
        float probability[4][4], gradient[4][4];
        recompute<T>(probability, gradient, a, p, q, k, v, dout, lse, delta, p.first, first, y, 4 * x);
#pragma unroll
        for (int i = 0; i < 4; ++i) put(weights + (y + i) * row + 4 * x, gradient[i][0], gradient[i][1], gradient[i][2], gradient[i][3]);
        __syncthreads();
        weigh<per>(dq, weights, k, a.head_dim, y, x);
    }
    __syncthreads();
    put_features(q, dq, a.head_dim, y, x);
    __syncthreads();
    store(q, h.dq, h.dq_stride, a, p, true, h.scale);
}

// Decoding: grid (heads, sequences), 128 threads; positions go round the threads.
constexpr uint32_t decode_threads = 128;

template <class T> __global__ void __launch_bounds__(decode_threads) attention_decode_kernel(chtsl_attention a, Heads<T> h, uint32_t position, uint32_t max_len, float* keys, float* values, float* scores, T* out) {
    __shared__ float query[most_head_dim];
    uint32_t head = blockIdx.x, sequence = blockIdx.y, half = a.head_dim / 2;
    size_t first = (size_t(sequence) * a.heads + head) * a.head_dim;
    keys += first * max_len, values += first * max_len;
    scores += (size_t(sequence) * a.heads + head) * max_len;
    for (uint32_t f = threadIdx.x; f < half; f += decode_threads) {
        size_t low = head * a.head_dim + f, high = low + half;
        float c = a.rope[2 * (size_t(position) * half + f)], s = a.rope[2 * (size_t(position) * half + f) + 1];
        float u = to_float(h.q[low * h.q_stride + sequence]), v = to_float(h.q[high * h.q_stride + sequence]);
        query[f] = h.scale * (u * c - v * s), query[f + half] = h.scale * (v * c + u * s);
        u = to_float(h.k[low * h.k_stride + sequence]), v = to_float(h.k[high * h.k_stride + sequence]);
        keys[size_t(f) * max_len + position] = u * c - v * s, keys[size_t(f + half) * max_len + position] = v * c + u * s;
        values[size_t(f) * max_len + position] = to_float(h.v[low * h.v_stride + sequence]);
        values[size_t(f + half) * max_len + position] = to_float(h.v[high * h.v_stride + sequence]);
    }
    __syncthreads();  // the new key and value are in place for the whole block
    float max = -INFINITY, sum = 0;
    for (uint32_t t = threadIdx.x; t <= position; t += decode_threads) {
        float s = 0;
        for (uint32_t f = 0; f < a.head_dim; ++f) s += query[f] * keys[size_t(f) * max_len + t];
        scores[t] = s;
        max = fmaxf(max, s);
    }
    max = block_max<decode_threads>(max);
    for (uint32_t t = threadIdx.x; t <= position; t += decode_threads) {
        float e = __expf(scores[t] - max);
        scores[t] = e;
        sum += e;
    }
    sum = block_sum<decode_threads>(sum);
    for (uint32_t f = 0; f < a.head_dim; ++f) {
        float v = 0;
        for (uint32_t t = threadIdx.x; t <= position; t += decode_threads) v += scores[t] * values[size_t(f) * max_len + t];
        v = block_sum<decode_threads>(v);
        if (threadIdx.x == 0) out[(head * a.head_dim + f) * h.out_stride + sequence] = from_float<T>(v / sum);
    }
}

chtsl_status check_shape(const chtsl_attention& a) {
    if (a.head_dim == 0 || a.head_dim % 2 || a.head_dim > most_head_dim) return CHTSL_UNSUPPORTED;
    if (uint64_t(a.heads) * a.head_dim > largest_extent || uint64_t(a.sequences) * a.seq_len > largest_extent) return CHTSL_TOO_LARGE;
    return a.rope ? CHTSL_OK : CHTSL_BAD_SHAPE;
}

// Activations of all heads and tokens, of one type.
chtsl_status check_heads(const chtsl_attention& a, std::initializer_list<const chtsl_act*> all) {
    int32_t type = (*all.begin())->type;
    for (const chtsl_act* x : all) {
        CHTSL_TRY(check_act(*x, a.heads * a.head_dim, a.sequences * a.seq_len));
        if (x->type != type) return CHTSL_UNSUPPORTED;
    }
    return CHTSL_OK;
}

template <class T> Heads<T> inputs(const chtsl_attention& a, const chtsl_act& q, const chtsl_act& k, const chtsl_act& v, const chtsl_act& out) {
    Heads<T> h{};
    h.q = data<T>(q), h.k = data<T>(k), h.v = data<T>(v), h.out = data<T>(out);
    h.q_stride = q.stride, h.k_stride = k.stride, h.v_stride = v.stride, h.out_stride = out.stride;
    h.scale = 1.0f / std::sqrt(float(a.head_dim));
    return h;
}

// Launches a kernel with `tiles` tiles of dynamic shared memory of one row per feature, and one of probabilities.
template <class Kernel, class... A> chtsl_status launch(Kernel kernel, const chtsl_attention& a, uint32_t operands, uint32_t extra, cudaStream_t stream, A... arguments) {
    uint64_t blocks = uint64_t((a.seq_len + tile - 1) / tile) * a.heads * a.sequences;
    if (blocks > largest_extent) return CHTSL_TOO_LARGE;
    int bytes = int((operands * a.head_dim * row + tile * row + extra) * sizeof(float));
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return chtsl_status(error);
    LAUNCH(kernel, dim3(unsigned(blocks)), dim3(block_threads), size_t(bytes), stream, a, arguments...);
    return launch_status();
}

// Features per thread of a 16-wide row of threads.
template <class T, class F> chtsl_status by_head_dim(uint32_t head_dim, F f) {
    if (head_dim <= 16) return f(std::integral_constant<int, 1>());
    if (head_dim <= 32) return f(std::integral_constant<int, 2>());
    if (head_dim <= 64) return f(std::integral_constant<int, 4>());
    return f(std::integral_constant<int, 8>());
}

template <class T> chtsl_status forward(const chtsl_attention& a, const Heads<T>& h, T* out, cudaStream_t stream) {
    return by_head_dim<T>(a.head_dim, [&](auto per) { return launch(attention_forward_kernel<T, decltype(per)::value>, a, 3, 0, stream, h, out); });
}

template <class T> chtsl_status backward(const chtsl_attention& a, const Heads<T>& h, cudaStream_t stream) {
    return by_head_dim<T>(a.head_dim, [&](auto per) {
        CHTSL_TRY(launch(attention_backward_keys_kernel<T, decltype(per)::value>, a, 4, 2 * tile, stream, h));
        return launch(attention_backward_queries_kernel<T, decltype(per)::value>, a, 4, 2 * tile, stream, h);
    });
}

template <class T>
chtsl_status decode(const chtsl_attention& a, const Heads<T>& h, uint32_t position, uint32_t max_len, float* keys, float* values, float* scores, T* out, cudaStream_t stream) {
    LAUNCH(attention_decode_kernel<T>, dim3(a.heads, a.sequences), dim3(decode_threads), 0, stream, a, h, position, max_len, keys, values, scores, out);
    return launch_status();
}

bool empty(const chtsl_attention& a) { return a.heads == 0 || a.sequences == 0 || a.seq_len == 0; }

}  // namespace

chtsl_status CHTSL_SYMBOL(attention_forward)(chtsl_attention shape, chtsl_act q, chtsl_act k, chtsl_act v, chtsl_act out, chtsl_act lse, chtsl_stream stream) {
    CHTSL_TRY(check_shape(shape));
    CHTSL_TRY(check_heads(shape, {&q, &k, &v, &out}));
    CHTSL_TRY(check_act(lse, shape.heads, q.tokens));
    if (lse.type != CHTSL_F32) return CHTSL_UNSUPPORTED;
    if (empty(shape)) return CHTSL_OK;
    auto on = static_cast<cudaStream_t>(stream);
    auto run = [&](auto zero) {
        using T = decltype(zero);
        Heads<T> h = inputs<T>(shape, q, k, v, out);
        h.lse = data<float>(lse), h.lse_stride = lse.stride;
        return forward(shape, h, data<T>(out), on);
    };
    return q.type == CHTSL_BF16 ? run(bf16{}) : run(float{});
}

chtsl_status CHTSL_SYMBOL(attention_backward)(chtsl_attention shape, chtsl_act q, chtsl_act k, chtsl_act v, chtsl_act out, chtsl_act lse, chtsl_act dout, chtsl_act dq, chtsl_act dk, chtsl_act dv, chtsl_stream stream) {
    CHTSL_TRY(check_shape(shape));
    CHTSL_TRY(check_heads(shape, {&q, &k, &v, &out, &dout, &dq, &dk, &dv}));
    CHTSL_TRY(check_act(lse, shape.heads, q.tokens));
    if (lse.type != CHTSL_F32) return CHTSL_UNSUPPORTED;
    if (empty(shape)) return CHTSL_OK;
    auto on = static_cast<cudaStream_t>(stream);
    auto run = [&](auto zero) {
        using T = decltype(zero);
        Heads<T> h = inputs<T>(shape, q, k, v, out);
        h.lse = data<float>(lse), h.lse_stride = lse.stride;
        h.dout = data<T>(dout), h.dout_stride = dout.stride;
        h.dq = data<T>(dq), h.dk = data<T>(dk), h.dv = data<T>(dv);
        h.dq_stride = dq.stride, h.dk_stride = dk.stride, h.dv_stride = dv.stride;
        return backward(shape, h, on);
    };
    return q.type == CHTSL_BF16 ? run(bf16{}) : run(float{});
}

chtsl_status CHTSL_SYMBOL(attention_decode)(chtsl_attention shape, uint32_t position, uint32_t max_len, chtsl_act q, chtsl_act k, chtsl_act v, float* keys, float* values, float* scores, chtsl_act out, chtsl_stream stream) {
    CHTSL_TRY(check_shape(shape));
    CHTSL_TRY(check_heads(shape, {&q, &k, &v, &out}));
    if (shape.seq_len != 1 || position >= max_len) return CHTSL_BAD_SHAPE;
    if (empty(shape)) return CHTSL_OK;
    if (!keys || !values || !scores) return CHTSL_BAD_SHAPE;
    if (shape.sequences > largest_grid_y) return CHTSL_TOO_LARGE;
    auto on = static_cast<cudaStream_t>(stream);
    auto run = [&](auto zero) {
        using T = decltype(zero);
        return decode(shape, inputs<T>(shape, q, k, v, out), position, max_len, keys, values, scores, data<T>(out), on);
    };
    return q.type == CHTSL_BF16 ? run(bf16{}) : run(float{});
}
