// mma.cuh - version 3 of the low-rank passes: bf16 on tensor cores, rank up to 256. Part of low_rank.cu.
//
// A block owns 64 tokens; its 8 warps are 2 groups of 32 tokens times 4 parts. Products with a rank-sized result give
// each part every fourth 16 ranks, products with out-sized results every fourth 16 rows: no sum crosses a warp but the
// branch sums. In an mma features are rows and tokens columns, four column blocks of 8 side by side. Two orders of the
// 32 tokens of a group occur, both chosen so that a lane's sums of one row are 16 bytes:
//   natural   column c of block j is token 8 j + c: what ldmatrix makes of rows in natural order
//   paired    column c of block j is token 8 (c / 2) + 2 j + c % 2: lane t of four holds tokens 8 t .. 8 t + 7 of a row,
//             as global memory wants them. phi(u) is kept in shared memory in this order, L comes out in it.
#pragma once
#include "low_rank/problem.cuh"

namespace {

struct MmaTile {
    static constexpr uint32_t tokens = 64, groups = 2, parts = 4, threads = 32 * groups * parts;
    static constexpr uint32_t depth = 64;           // features of x in one step
    static constexpr uint32_t rows = 16 * parts;    // rows of B in one step
    static constexpr uint32_t stride = tokens + 8;  // of rows of tokens: odd in units of 16 bytes, so that ldmatrix
                                                    // meets no bank twice; of A too, whose rows are as long
    static constexpr uint32_t patch_stride = 40, patch = 16 * patch_stride;  // floats of a warp's 16 x 32 sums
    static constexpr uint32_t most_ranks = 256;
    static_assert(depth == tokens && stride / 8 % 2 == 1, "see stride");

    // Rows of B: ranks are a multiple of 16, so this is odd in units of 16 bytes too.
    static DEVICE uint32_t b_stride(uint32_t ranks) { return ranks + 8; }
};

// Where a thread stands: in its block, and in the fragments of an mma.
struct Place {
    uint32_t lane = threadIdx.x % 32, group = threadIdx.x / 32 % MmaTile::groups, part = threadIdx.x / 32 / MmaTile::groups;
    uint32_t row = lane / 4, pair = lane % 4;
    // Row and column that this lane names to ldmatrix for a 16 x 16 block: four 8 x 8 ones, down first.
    uint32_t matrix_row = lane % 16, matrix_column = lane / 16 * 8;
};

// Sums of 16 rows and 32 tokens: [column block][2 half + parity], see mma.
using Sums = float[4][4];

// 16 rows of the 32 tokens as the right operand of mma.
struct Tokens {
    uint32_t left[4], right[4];
    DEVICE void load(const bf16* from) {
        load_matrix<4, true>(left, from);
        load_matrix<4, true>(right, from + 16);
    }
};

DEVICE void multiply(Sums& sum, const uint32_t (&a)[4], const Tokens& x) {
    const uint32_t b[4][2] = {{x.left[0], x.left[1]}, {x.left[2], x.left[3]}, {x.right[0], x.right[1]}, {x.right[2], x.right[3]}};
#pragma unroll
    for (int j = 0; j < 4; ++j) mma_bf16_16x8x16(sum[j], a, b[j]);
}

// Rows of a tile with 16-byte copies; rows and columns outside become zero.
DEVICE void fetch(bf16* to, uint32_t to_stride, const bf16* from, size_t from_stride, uint32_t rows, uint32_t rows_left, uint32_t columns,
                  uint32_t columns_left) {
    for (uint32_t i = threadIdx.x; i < rows * (columns / 8); i += MmaTile::threads) {
        uint32_t row = i / (columns / 8), column = i % (columns / 8) * 8;
        bool valid = row < rows_left && column < columns_left;
        copy_async_16(to + row * to_stride + column, valid ? from + row * from_stride + column : from, valid);
    }
}

// Rows of B of a step, into one of two places in turn; nothing past the last step.
template <class P> DEVICE void fetch_b(bf16* places, const P& p, uint32_t step, uint32_t ranks) {
    uint32_t m = step * MmaTile::rows, stride = MmaTile::b_stride(ranks);
    if (m < p.out) fetch(places + step % 2 * MmaTile::rows * stride, stride, p.b + m * p.b_stride, p.b_stride, MmaTile::rows, p.out - m, ranks, uint32_t(p.b_stride));
    copy_async_commit();
}

// phi of eight tokens (chunk of the block's 64) of a rank into the paired order.
DEVICE void store_paired(bf16* hidden, uint32_t rank, uint32_t chunk, const float (&value)[8]) {
    auto* to = reinterpret_cast<uint32_t*>(hidden + rank * MmaTile::stride + chunk / 4 * 32) + chunk % 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) to[4 * j] = pack_bf16(value[2 * j], value[2 * j + 1]);
}

// Sums in natural order through a patch of the warp's own: value[half] are tokens 8 (lane % 4) .. of row lane / 4 + 8 half.
DEVICE void to_rows(float (&value)[2][8], const Sums& sum, float* patch, const Place& at) {
    __syncwarp();  // the last use is over
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
            *reinterpret_cast<float2*>(patch + (at.row + 8 * half) * MmaTile::patch_stride + 8 * j + 2 * at.pair) =
                float2{sum[j][2 * half], sum[j][2 * half + 1]};
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) load_eight(value[half], patch + (at.row + 8 * half) * MmaTile::patch_stride + 8 * at.pair);
}

// L / g of the part's 16 rows of a step, tokens in paired order.
DEVICE void low_rank_rows(Sums& l, const bf16* b, const bf16* hidden, uint32_t tiles, const Place& at) {
    const uint32_t b_stride = MmaTile::b_stride(16 * tiles);
    const bf16* weight = b + (16 * at.part + at.matrix_row) * b_stride + at.matrix_column;
    const bf16* operand = hidden + at.matrix_row * MmaTile::stride + 32 * at.group + at.matrix_column;
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) l[j][i] = 0;
    for (uint32_t tile = 0; tile < tiles; ++tile) {
        uint32_t a[4];
        Tokens h;
        load_matrix<4, false>(a, weight + 16 * tile);
        h.load(operand + 16 * tile * MmaTile::stride);
        multiply(l, a, h);
    }
}

// A lane's tokens of a row in paired order.
DEVICE void paired_row(float (&value)[8], const Sums& l, int half, float scale) {
#pragma unroll
    for (int j = 0; j < 4; ++j) value[2 * j] = scale * l[j][2 * half], value[2 * j + 1] = scale * l[j][2 * half + 1];
}

// Two rows of a part, 8 apart, as a lane holds them: tokens 8 (lane % 4) .. of its group.
struct TwoRows {
    uint4 half[2];
    DEVICE void load(const bf16* from, size_t stride, uint32_t row, uint32_t rows) {
#pragma unroll
        for (int i = 0; i < 2; ++i) half[i] = row + 8 * i < rows ? load_16_bytes(from + (row + 8 * i) * stride) : uint4{0, 0, 0, 0};
    }
};

// Steps of x and A in flight: more where they are small.
template <int per> constexpr uint32_t stages = per == 1 ? 3 : 2;

template <int per> uint32_t forward_bytes(uint32_t ranks) {
    using M = MmaTile;
    uint32_t x_and_a = stages<per> * (M::depth + ranks) * M::stride * 2, b = 2 * M::rows * (ranks + 8) * 2;
    uint32_t patches = M::threads / 32 * M::patch * 4, sums = M::parts * CHTSL_SUMS * M::tokens * 4;
    return ranks * M::stride * 2 + max(max(x_and_a, b), max(patches, sums));
}

inline uint32_t backward_bytes(uint32_t ranks) {
    using M = MmaTile;
    uint32_t b_and_d_l = 2 * M::rows * (ranks + 8) * 2 + M::rows * M::stride * 2, patches = M::threads / 32 * M::patch * 4;
    return ranks * M::stride * 2 + max(b_and_d_l, patches);
}

// Grid width / 64, 256 threads, forward_bytes of shared memory: phi(u), then steps of x and A, patches, steps of B and
// branch sums, one after the other in the same place. `tiles`: 16 ranks each; a part has at most `per` of them.
template <int per, bool with_sums>
__global__ void __launch_bounds__(MmaTile::threads, per <= 2 ? 2 : 1) low_rank_forward_mma_kernel(Forward<bf16> p, uint32_t tiles) {
    using M = MmaTile;
    DYNAMIC_SHARED(bf16, hidden);
    const Place at;
    const uint32_t ranks = 16 * tiles, first = blockIdx.x * M::tokens, step_size = (M::depth + ranks) * M::stride;
    bf16* steps = hidden + ranks * M::stride;
    float* patch = reinterpret_cast<float*>(steps) + threadIdx.x / 32 * M::patch;

    // u = A x.
    Sums u[per] = {};
    const uint32_t x_steps = (p.in + M::depth - 1) / M::depth;
    auto fetch_x_and_a = [&](uint32_t step) {
        if (step < x_steps) {
            uint32_t k = step * M::depth;
            bf16* x = steps + step % stages<per> * step_size;
            fetch(x, M::stride, p.x + k * p.x_stride + first, p.x_stride, M::depth, p.in - k, M::tokens, M::tokens);
            fetch(x + M::depth * M::stride, M::stride, p.a + k, p.a_stride, ranks, p.rank, M::depth, uint32_t(p.a_stride) - k);
        }
        copy_async_commit();  // empty ones keep the count
    };
#pragma unroll
    for (uint32_t step = 0; step + 1 < stages<per>; ++step) fetch_x_and_a(step);
    for (uint32_t step = 0; step < x_steps; ++step) {
        copy_async_wait<int(stages<per>) - 2>();
        __syncthreads();  // everybody's part of this step has landed, and nobody reads the step before it
        fetch_x_and_a(step + stages<per> - 1);
        const bf16* x = steps + step % stages<per> * step_size + at.matrix_row * M::stride + 32 * at.group + at.matrix_column;
        const bf16* a = steps + step % stages<per> * step_size + (M::depth + at.matrix_row) * M::stride + at.matrix_column;
        if (at.part >= tiles) continue;
#pragma unroll
        for (uint32_t k = 0; k < M::depth; k += 16) {
            Tokens b;
            b.load(x + k * M::stride);
#pragma unroll
            for (uint32_t i = 0; i < per; ++i) {
                uint32_t tile = at.part + M::parts * i, weight[4];
                if (tile >= tiles) break;
                load_matrix<4, false>(weight, a + 16 * tile * M::stride + k);
                multiply(u[i], weight, b);
            }
        }
    }
    copy_async_wait<0>();
    __syncthreads();

    // u to global memory, phi(u) to shared.
#pragma unroll
    for (uint32_t i = 0; i < per; ++i) {
        uint32_t tile = at.part + M::parts * i;
        if (tile >= tiles) break;
        float value[2][8];
        to_rows(value, u[i], patch, at);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint32_t rank = 16 * tile + at.row + 8 * half, chunk = 4 * at.group + at.pair;
            if (rank < p.rank) store_eight(p.u + rank * p.u_stride + first + 8 * chunk, value[half]);
#pragma unroll
            for (int j = 0; j < 8; ++j) value[half][j] = phi<bf16>(value[half][j], p.silu);
            store_paired(hidden, rank, chunk, value[half]);
        }
    }
    __syncthreads();  // phi is there, patches are done with

    // o = s + L.
    const uint32_t b_steps = (p.out + M::rows - 1) / M::rows, b_size = M::rows * M::b_stride(ranks);
    const uint32_t own = 32 * at.group + 8 * at.pair, n = first + own;
    BranchSums<8> sums;
    TwoRows s = {};
    if (p.s) s.load(p.s + n, p.s_stride, 16 * at.part + at.row, p.out);
    fetch_b(steps, p, 0, ranks);
    for (uint32_t step = 0; step < b_steps; ++step) {
        uint32_t row = step * M::rows + 16 * at.part + at.row;
        copy_async_wait<0>();
        __syncthreads();  // as above
        fetch_b(steps, p, step + 1, ranks);
        TwoRows next = {};
        if (p.s) next.load(p.s + n, p.s_stride, row + M::rows, p.out);
        Sums l;
        low_rank_rows(l, steps + step % 2 * b_size, hidden, tiles, at);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float value[8], sparse[8];
            paired_row(value, l, half, p.scale);
            unpack_eight(sparse, s.half[half]);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                if constexpr (with_sums) sums.add(j, sparse[j], value[j]);  // rows past the end add zeros
                value[j] += sparse[j];
            }
            if (row + 8 * half < p.out) store_eight(p.o + (row + 8 * half) * p.o_stride + n, value);
        }
        s = next;
    }
    copy_async_wait<0>();
    if constexpr (with_sums) {
        float* patches = reinterpret_cast<float*>(steps);
        sums.join_lanes(4);
        __syncthreads();  // B is done with
        if (at.row == 0) sums.leave(patches + at.part * CHTSL_SUMS * M::tokens, M::tokens, own);
        __syncthreads();
        store_branch_sums<M::tokens, M::parts, M::threads>(patches, p.sums + first, p.sums_stride);
    }
}

// Grid width / 64, 256 threads, backward_bytes of shared memory: phi(u) (with coefficients only), two steps of B, d_l of
// a step; patches in the same place at the end. Step by step the parts make d_l of 16 rows each, then du of their ranks
// from all 64.
template <int per, bool aligned>
__global__ void __launch_bounds__(MmaTile::threads, per <= 2 ? 2 : 1) low_rank_backward_mma_kernel(Backward<bf16> p, uint32_t tiles) {
    using M = MmaTile;
    DYNAMIC_SHARED(bf16, hidden);
    const Place at;
    const uint32_t ranks = 16 * tiles, first = blockIdx.x * M::tokens, b_size = M::rows * M::b_stride(ranks);
    bf16* b = hidden + ranks * M::stride;
    bf16* d_l_step = b + 2 * b_size;
    const uint32_t b_steps = (p.out + M::rows - 1) / M::rows;
    fetch_b(b, p, 0, ranks);
    const uint32_t own = 32 * at.group + 8 * at.pair, n = first + own;
    TwoRows d_o, o = {};
    auto load_rows = [&](uint32_t step) {
        uint32_t row = step * M::rows + 16 * at.part + at.row;
        d_o.load(p.d_o + n, p.d_o_stride, row, p.out);
        if constexpr (aligned) o.load(p.o + n, p.o_stride, row, p.out);
    };
    load_rows(0);

    if (aligned || p.phi)
        for (uint32_t i = threadIdx.x; i < ranks * (M::tokens / 8); i += M::threads) {
            uint32_t rank = i / (M::tokens / 8), chunk = i % (M::tokens / 8);
            float value[8] = {};
            if (rank < p.rank) load_eight(value, p.u + rank * p.u_stride + first + 8 * chunk);
#pragma unroll
            for (int j = 0; j < 8; ++j) value[j] = phi<bf16>(value[j], p.silu);
            if (p.phi && rank < p.rank) store_eight(p.phi + rank * p.phi_stride + first + 8 * chunk, value);
            if constexpr (aligned) store_paired(hidden, rank, chunk, value);
        }

    float c[8] = {};
    if constexpr (aligned) load_eight(c, p.c + n);
    Sums du[per] = {};
    for (uint32_t step = 0; step < b_steps; ++step) {
        uint32_t row = step * M::rows + 16 * at.part + at.row;
        copy_async_wait<0>();
        __syncthreads();  // B has landed, phi is there; nobody reads the other step of B, nor d_l of the last one
        fetch_b(b, p, step + 1, ranks);
        const bf16* b_step = b + step % 2 * b_size;
        Sums l;
        if constexpr (aligned) low_rank_rows(l, b_step, hidden, tiles, at);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint4 d_l = d_o.half[half];
            if constexpr (aligned) {
                float value[8], output[8], d_s[8];
                paired_row(value, l, half, p.scale);
                unpack_eight(output, o.half[half]);
                unpack_eight(d_s, d_o.half[half]);
#pragma unroll
                for (int j = 0; j < 8; ++j) align(d_s[j], value[j], output[j], value[j], c[j]);
                d_l = pack_eight(value);
                if (row + 8 * half < p.out) {
                    store_16_bytes(p.d_o + (row + 8 * half) * p.d_o_stride + n, pack_eight(d_s));
                    store_16_bytes(p.d_l + (row + 8 * half) * p.d_l_stride + n, d_l);
                }
            }
            store_16_bytes(d_l_step + (16 * at.part + at.row + 8 * half) * M::stride + own, d_l);
        }
        load_rows(step + 1);
        __syncthreads();  // d_l of all 64 rows
        if (at.part >= tiles) continue;
        // Operand a of du is the transpose of B: ldmatrix turns 8 x 8 blocks, named down the ranks first.
        const bf16* weight = b_step + (at.lane % 8 + at.lane / 16 * 8) * M::b_stride(ranks) + at.lane / 8 % 2 * 8;
        const bf16* operand = d_l_step + at.matrix_row * M::stride + 32 * at.group + at.matrix_column;
#pragma unroll
        for (uint32_t k = 0; k < M::rows; k += 16) {
            Tokens d;
            d.load(operand + k * M::stride);
#pragma unroll
            for (uint32_t i = 0; i < per; ++i) {
                uint32_t tile = at.part + M::parts * i, a[4];
                if (tile >= tiles) break;
                load_matrix<4, true>(a, weight + k * M::b_stride(ranks) + 16 * tile);
                multiply(du[i], a, d);
            }
        }
    }
    copy_async_wait<0>();
    __syncthreads();  // B and d_l are done with

    float* patch = reinterpret_cast<float*>(b) + threadIdx.x / 32 * M::patch;
#pragma unroll
    for (uint32_t i = 0; i < per; ++i) {
        uint32_t tile = at.part + M::parts * i;
        if (tile >= tiles) break;
        float value[2][8];
        to_rows(value, du[i], patch, at);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint32_t rank = 16 * tile + at.row + 8 * half;
            if (rank >= p.rank) continue;
            float u[8];
            load_eight(u, p.u + rank * p.u_stride + n);
#pragma unroll
            for (int j = 0; j < 8; ++j) value[half][j] *= p.scale * phi_slope<bf16>(u[j], p.silu);
            store_eight(p.du + rank * p.du_stride + n, value[half]);
        }
    }
}

template <class Kernel> chtsl_status allow_shared(Kernel kernel, uint32_t bytes) {
    return chtsl_status(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
}

template <int per> uint32_t mma_bytes(const Forward<bf16>& p) { return forward_bytes<per>((p.rank + 15) / 16 * 16); }
template <int per> uint32_t mma_bytes(const Backward<bf16>& p) { return backward_bytes((p.rank + 15) / 16 * 16); }

template <int per, bool with_sums> chtsl_status launch_mma_as(const Forward<bf16>& p, cudaStream_t stream) {
    uint32_t bytes = mma_bytes<per>(p);
    CHTSL_TRY(allow_shared(low_rank_forward_mma_kernel<per, with_sums>, bytes));
    LAUNCH((low_rank_forward_mma_kernel<per, with_sums>), dim3(p.width / MmaTile::tokens), dim3(MmaTile::threads), bytes, stream, p, (p.rank + 15) / 16);
    return launch_status();
}
template <int per, bool aligned> chtsl_status launch_mma_as(const Backward<bf16>& p, cudaStream_t stream) {
    uint32_t bytes = mma_bytes<per>(p);
    CHTSL_TRY(allow_shared(low_rank_backward_mma_kernel<per, aligned>, bytes));
    LAUNCH((low_rank_backward_mma_kernel<per, aligned>), dim3(p.width / MmaTile::tokens), dim3(MmaTile::threads), bytes, stream, p, (p.rank + 15) / 16);
    return launch_status();
}

template <int per> chtsl_status launch_mma(const Forward<bf16>& p, cudaStream_t stream) {
    return p.sums ? launch_mma_as<per, true>(p, stream) : launch_mma_as<per, false>(p, stream);
}
template <int per> chtsl_status launch_mma(const Backward<bf16>& p, cudaStream_t stream) {
    return p.c ? launch_mma_as<per, true>(p, stream) : launch_mma_as<per, false>(p, stream);
}

template <class P> bool fits_mma(const P& p) {
    if (p.rank > MmaTile::most_ranks) return false;
    uint32_t bytes = p.rank <= 64 ? mma_bytes<1>(p) : p.rank <= 128 ? mma_bytes<2>(p) : mma_bytes<4>(p);
    return bytes <= shared_memory_limit();
}

template <class P> chtsl_status launch_mma(const P& p, cudaStream_t stream) {
    if (!fits_mma(p)) return CHTSL_UNSUPPORTED;
    if (p.rank <= 64) return launch_mma<1>(p, stream);
    if (p.rank <= 128) return launch_mma<2>(p, stream);
    return launch_mma<4>(p, stream);
}

}  // namespace
