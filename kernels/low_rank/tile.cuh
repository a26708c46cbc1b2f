// tile.cuh - version 2 of the low-rank passes: FFMA tiles, exact products in f32, any rank. Part of low_rank.cu.
// A block owns 64 tokens and goes through rows 64 at a time; a thread has 4 rows (i / 16 + 16 j) of 4 tokens
// (4 (i % 16) ..). What one product leaves for the next (u; d_l) goes through global memory, after a barrier.
#pragma once
#include "low_rank/problem.cuh"

namespace {

struct FmaTile {
    static constexpr uint32_t tokens = 64, depth = 32, threads = 256, each = 4;  // tokens of a thread
    static constexpr uint32_t lanes = tokens / each, rows = threads / lanes;     // rows: one of each thread
    static_assert(depth * tokens / 8 == threads, "a thread fetches 8 tokens of the operand");
};

// Shared memory of one step of a product.
template <int tiles> struct FmaStage {
    float weight[FmaTile::depth][FmaTile::rows * tiles + 1];  // one more: columns are written across banks
    __align__(16) float operand[FmaTile::depth][FmaTile::tokens];
};

// sum[j][.] = sum over k < depth of weight(i / 16 + 16 j, k) operand(., k, token), k ascending. All threads come;
// `weight` gives zero for rows outside; operand(v, k, n) fills eight tokens from n on.
template <int tiles, class Weight, class Operand>
DEVICE void multiply(float (&sum)[tiles][FmaTile::each], FmaStage<tiles>& stage, uint32_t depth, Weight weight, Operand operand) {
    using F = FmaTile;
#pragma unroll
    for (int j = 0; j < tiles; ++j)
#pragma unroll
        for (uint32_t i = 0; i < F::each; ++i) sum[j][i] = 0;
    for (uint32_t first = 0; first < depth; first += F::depth) {
        __syncthreads();  // the last step is done with, and what the block wrote before is visible
        for (uint32_t i = threadIdx.x; i < F::depth * F::rows * tiles; i += F::threads) {
            uint32_t k = i % F::depth, row = i / F::depth;
            stage.weight[k][row] = first + k < depth ? weight(row, first + k) : 0.0f;
        }
        uint32_t own = threadIdx.x / (F::tokens / 8), n = threadIdx.x % (F::tokens / 8) * 8;
        float eight[8] = {};
        if (first + own < depth) operand(eight, first + own, n);
        store_eight(&stage.operand[own][n], eight);
        __syncthreads();
        uint32_t steps = min(F::depth, depth - first), ty = threadIdx.x / F::lanes, tx = threadIdx.x % F::lanes;
#pragma unroll 4
        for (uint32_t k = 0; k < steps; ++k) {
            const float4 v = *reinterpret_cast<const float4*>(&stage.operand[k][F::each * tx]);
#pragma unroll
            for (int j = 0; j < tiles; ++j) {
                float w = stage.weight[k][ty + F::rows * j];
                sum[j][0] += w * v.x, sum[j][1] += w * v.y, sum[j][2] += w * v.z, sum[j][3] += w * v.w;
            }
        }
    }
}

template <class T> DEVICE void load_four(float (&to)[4], const T* from);
template <> DEVICE void load_four<float>(float (&to)[4], const float* from) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
template <> DEVICE void load_four<bf16>(float (&to)[4], const bf16* from) {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    to[0] = low_bf16(v.x), to[1] = high_bf16(v.x), to[2] = low_bf16(v.y), to[3] = high_bf16(v.y);
}
template <class T> DEVICE void store_four(T* to, const float (&from)[4]);
template <> DEVICE void store_four<float>(float* to, const float (&from)[4]) {
    *reinterpret_cast<float4*>(to) = float4{from[0], from[1], from[2], from[3]};
}
template <> DEVICE void store_four<bf16>(bf16* to, const float (&from)[4]) {
    *reinterpret_cast<uint2*>(to) = uint2{pack_bf16(from[0], from[1]), pack_bf16(from[2], from[3])};
}

// phi(u) of eight tokens as an operand.
template <class T> struct Hidden {
    const T* u;
    size_t stride;
    bool silu;
    DEVICE void operator()(float (&to)[8], uint32_t r, uint32_t n) const {
        load_eight(to, u + r * stride + n);
#pragma unroll
        for (int i = 0; i < 8; ++i) to[i] = phi<T>(to[i], silu);
    }
};

// An activation as an operand.
template <class T> struct Stored {
    const T* data;
    size_t stride;
    DEVICE void operator()(float (&to)[8], uint32_t k, uint32_t n) const { load_eight(to, data + k * stride + n); }
};

// Rows first .. of a matrix, or of its transpose.
template <class T> struct Rows {
    const T* data;
    size_t stride;
    uint32_t first, rows;
    DEVICE float operator()(uint32_t row, uint32_t k) const { return first + row < rows ? to_float(data[(first + row) * stride + k]) : 0.0f; }
};
template <class T> struct Columns {
    const T* data;
    size_t stride;
    uint32_t first, columns;
    DEVICE float operator()(uint32_t row, uint32_t k) const { return first + row < columns ? to_float(data[k * stride + first + row]) : 0.0f; }
};

// Grid width / 64, 256 threads. `tiles`: 16 ranks of u at a time per thread, 1, 2 or 4 times.
template <class T, int tiles, bool with_sums> __global__ void __launch_bounds__(FmaTile::threads, 4) low_rank_forward_fma_kernel(Forward<T> p) {
    using F = FmaTile;
    __shared__ union Memory {
        FmaStage<tiles> u;
        FmaStage<4> l;
        __align__(16) float patches[F::threads / 32][CHTSL_SUMS * F::tokens];
    } memory;
    uint32_t first = blockIdx.x * F::tokens, ty = threadIdx.x / F::lanes, own = threadIdx.x % F::lanes * F::each, n = first + own;
    for (uint32_t r = 0; r < p.rank; r += F::rows * tiles) {
        float u[tiles][F::each];
        multiply(u, memory.u, p.in, Rows<T>{p.a, p.a_stride, r, p.rank}, Stored<T>{p.x + first, p.x_stride});
#pragma unroll
        for (int j = 0; j < tiles; ++j)
            if (r + ty + F::rows * j < p.rank) store_four(p.u + (r + ty + F::rows * j) * p.u_stride + n, u[j]);
    }
    BranchSums<F::each> sums;
    for (uint32_t m = 0; m < p.out; m += F::rows * 4) {
        float l[4][F::each];
        multiply(l, memory.l, p.rank, Rows<T>{p.b, p.b_stride, m, p.out}, Hidden<T>{p.u + first, p.u_stride, p.silu});
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            uint32_t row = m + ty + F::rows * j;
            if (row >= p.out) continue;
            float s[4] = {};
            if (p.s) load_four(s, p.s + row * p.s_stride + n);
#pragma unroll
            for (uint32_t i = 0; i < F::each; ++i) {
                float value = p.scale * l[j][i];
                if constexpr (with_sums) sums.add(int(i), s[i], value);
                s[i] += value;
            }
            store_four(p.o + row * p.o_stride + n, s);
        }
    }
    if constexpr (with_sums) {
        sums.join_lanes(F::lanes);
        __syncthreads();  // the last product is done with
        if (threadIdx.x % 32 < F::lanes) sums.leave(memory.patches[threadIdx.x / 32], F::tokens, own);
        __syncthreads();
        store_branch_sums<F::tokens, F::threads / 32, F::threads>(memory.patches[0], p.sums + first, p.sums_stride);
    }
}

// The same grid and block.
template <class T, int tiles> __global__ void __launch_bounds__(FmaTile::threads, 4) low_rank_backward_fma_kernel(Backward<T> p) {
    using F = FmaTile;
    __shared__ union Memory {
        FmaStage<tiles> u;
        FmaStage<4> l;
    } memory;
    uint32_t first = blockIdx.x * F::tokens, ty = threadIdx.x / F::lanes, n = first + threadIdx.x % F::lanes * F::each;
    if (p.c) {
        float c[4];
        load_four(c, p.c + n);
        for (uint32_t m = 0; m < p.out; m += F::rows * 4) {
            float l[4][F::each];
            multiply(l, memory.l, p.rank, Rows<T>{p.b, p.b_stride, m, p.out}, Hidden<T>{p.u + first, p.u_stride, p.silu});
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                uint32_t row = m + ty + F::rows * j;
                if (row >= p.out) continue;
                float o[4], d_o[4], d_l[4];
                load_four(o, p.o + row * p.o_stride + n);
                load_four(d_o, p.d_o + row * p.d_o_stride + n);
#pragma unroll
                for (uint32_t i = 0; i < F::each; ++i) align(d_o[i], d_l[i], o[i], p.scale * l[j][i], c[i]);
                store_four(p.d_o + row * p.d_o_stride + n, d_o);
                store_four(p.d_l + row * p.d_l_stride + n, d_l);
            }
        }
    }
    for (uint32_t r = 0; r < p.rank; r += F::rows * tiles) {
        float du[tiles][F::each];
        multiply(du, memory.u, p.out, Columns<T>{p.b, p.b_stride, r, p.rank}, Stored<T>{p.d_l + first, p.d_l_stride});
#pragma unroll
        for (int j = 0; j < tiles; ++j) {
            uint32_t row = r + ty + F::rows * j;
            if (row >= p.rank) continue;
            float u[4], value[4];
            load_four(u, p.u + row * p.u_stride + n);
#pragma unroll
            for (uint32_t i = 0; i < F::each; ++i) {
                du[j][i] *= p.scale * phi_slope<T>(u[i], p.silu);
                value[i] = phi<T>(u[i], p.silu);
            }
            store_four(p.du + row * p.du_stride + n, du[j]);
            if (p.phi) store_four(p.phi + row * p.phi_stride + n, value);
        }
    }
}

template <int tiles, class T> void launch_fma(const Forward<T>& p, cudaStream_t stream) {
    dim3 grid(p.width / FmaTile::tokens), block(FmaTile::threads);
    if (p.sums) LAUNCH((low_rank_forward_fma_kernel<T, tiles, true>), grid, block, 0, stream, p);
    else LAUNCH((low_rank_forward_fma_kernel<T, tiles, false>), grid, block, 0, stream, p);
}
template <int tiles, class T> void launch_fma(const Backward<T>& p, cudaStream_t stream) {
    LAUNCH((low_rank_backward_fma_kernel<T, tiles>), dim3(p.width / FmaTile::tokens), dim3(FmaTile::threads), 0, stream, p);
}

template <class P> chtsl_status launch_fma(const P& p, cudaStream_t stream) {
    if (p.rank <= 16) launch_fma<1>(p, stream);
    else if (p.rank <= 32) launch_fma<2>(p, stream);
    else launch_fma<4>(p, stream);
    return launch_status();
}

}  // namespace
