// sound.cu - kernels that use everything as it should be used: each must pass and leave 1 in all 256 elements of `out`,
// which hold 0 before.
#include "planted.h"

__global__ void synchronisation(float* out) {
    __shared__ float tile[64];
    __shared__ int count;
    unsigned t = threadIdx.x, lane = t % 32;
    if (t == 0) count = 0;
    tile[t] = float(t);
    __syncwarp();
    bool ok = tile[t ^ 1] == float(t ^ 1);
    __syncthreads();
    ok &= tile[63 - t] == float(63 - t);
    ok &= __shfl_sync(all_lanes, int(lane), 7) == 7 && __shfl_sync(all_lanes, int(lane), 3, 8) == int(lane / 8 * 8 + 3);
    ok &= __shfl_up_sync(all_lanes, int(lane), 1) == int(lane ? lane - 1 : 0);
    ok &= __shfl_down_sync(all_lanes, double(lane), 2) == double(lane < 30 ? lane + 2 : lane);
    ok &= __ballot_sync(all_lanes, lane % 3 == 0) == 0x49249249u;
    ok &= __any_sync(all_lanes, lane == 9) && !__all_sync(all_lanes, lane == 9);
    ok &= __reduce_add_sync(all_lanes, int(lane)) == 496 && __reduce_max_sync(all_lanes, lane) == 31 && __reduce_min_sync(all_lanes, -int(lane)) == -31;
    if (lane < 16) ok &= __shfl_xor_sync(0x0000ffffu, int(lane), 5) == int(lane ^ 5);
    else ok &= __reduce_or_sync(0xffff0000u, lane) == 31;
    ok &= __syncthreads_count(t < 10) == 10 && __syncthreads_or(t == 3) && !__syncthreads_and(t == 3);
    atomicAdd(&count, 2);
    if (t < 32) {  // one warp produces for the other and both meet at barrier 3
        tile[t] = 5;
        named_barrier(3, 64);
    } else {
        named_barrier(3, 64);
        ok &= tile[t - 32] == 5;
    }
    ok &= count == 128;
    if (lane < 20) ok &= __popc(__ballot_sync(0x000fffffu, 1)) == 20;
    for (int i = 0; i < 4; ++i) out[4 * t + i] = ok;
}
__global__ void lanes_that_left(float* out) {  // need not come to a collective that is not aligned
    unsigned t = threadIdx.x;
    for (int i = 0; i < 4; ++i) out[4 * t + i] = t % 32 >= 20;
    if (t % 32 >= 20) return;
    bool ok = __popc(__ballot_sync(all_lanes, 1)) == 20;
    for (int i = 0; i < 4; ++i) out[4 * t + i] = ok;
}
__global__ void copies_in_two_stages(float* out) {
    __shared__ __align__(16) float tile[2][256];
    unsigned t = threadIdx.x;
    bool ok = true;
    copy_async_16(tile[0] + 4 * t, out + 4 * t, true);
    copy_async_commit();
    for (int stage = 0; stage < 4; ++stage) {
        if (stage < 3) {
            copy_async_16(tile[(stage + 1) % 2] + 4 * t, out + 4 * t, stage % 2);
            copy_async_commit();
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
        for (int i = 0; i < 4; ++i) ok &= tile[stage % 2][64 * i + 63 - t] == 0;
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) out[4 * t + i] = ok;
}
// Matrices with A[i][k] = 16 i + k and B[k][j] a unit matrix: D must show A's columns. Both warps do the same.
__global__ void fragments(float* out) {
    __shared__ __align__(16) bf16 a[16 * 16], b[16 * 8];
    int lane = int(threadIdx.x % 32);
    for (int i = int(threadIdx.x); i < 256; i += 64) a[i] = __float2bfloat16(float(i));
    for (int i = int(threadIdx.x); i < 128; i += 64) b[i] = __float2bfloat16(i / 8 == i % 8 + 3 ? 1.0f : 0.0f);  // k = j + 3
    __syncthreads();
    uint32_t as[4], bs[2];
    load_matrix<4, false>(as, a + lane % 16 * 16 + lane / 16 * 8);
    load_matrix<2, true>(bs, b + lane % 16 * 8);
    float d[4] = {}, e[4] = {};
    mma_bf16_16x8x16(d, as, bs);
    int g = lane / 4, t = lane % 4;
    // tf32: A[i][k] = 8 i + k, B[k][j] = (k == j)
    const uint32_t at[4] = {to_tf32(float(8 * g + t)), to_tf32(float(8 * g + 64 + t)), to_tf32(float(8 * g + t + 4)), to_tf32(float(8 * g + 68 + t))};
    const uint32_t bt[2] = {to_tf32(t == g), to_tf32(t + 4 == g)};
    mma_tf32_16x8x8(e, at, bt);
    for (int i = 0; i < 4; ++i) {
        int row = g + i / 2 * 8, column = 2 * t + i % 2;
        bool ok = threadIdx.x < 32 ? d[i] == float(16 * row + column + 3) : e[i] == float(8 * row + column);
        out[4 * threadIdx.x + i] = ok;
    }
}
// Rows of 128 bytes meet in one bank, rows of 16 bytes in none.
template <int row_bytes> __global__ void matrix_rows(float* out) {
    __shared__ __align__(16) unsigned char tile[8 * row_bytes];
    for (int i = int(threadIdx.x); i < 8 * row_bytes / 4; i += 64) reinterpret_cast<uint32_t*>(tile)[i] = 0;
    __syncthreads();
    uint32_t r[1];
    load_matrix<1, false>(r, tile + threadIdx.x % 8 * row_bytes);
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = r[0] == 0;
}
__global__ void sums(float* out) {
    unsigned t = threadIdx.x;
    bool ok = warp_sum(int(t % 32)) == 496 && warp_sum(float(t % 32)) == 496 && warp_sum(double(t % 32)) == 496;
    ok &= warp_sum(static_cast<unsigned long long>(t % 32) << 40) == 496ull << 40 && warp_max(-float(t % 32)) == 0;
    for (int round = 0; round < 3; ++round) ok &= block_sum<64>(float(t)) == 2016;
    ok &= block_sum<64>(double(t)) == 2016 && block_max<64>(float(t)) == 63 && block_sum<64>(t) == 2016;
    for (int i = 0; i < 4; ++i) out[4 * t + i] = ok;
}
__global__ void atomics(float* out) {
    __shared__ unsigned long long wide;
    __shared__ unsigned narrow;
    __shared__ double sum;
    unsigned t = threadIdx.x;
    if (t == 0) wide = 0, narrow = ~0u, sum = 0;
    __syncthreads();
    atomicAdd(&wide, 1ull << 40);
    atomicMax(&wide, 1ull);
    atomicMin(&narrow, t + 3);
    atomicAdd(&sum, 0.5);
    __syncthreads();
    bool ok = wide == 64ull << 40 && narrow == 3 && sum == 32;
    __syncthreads();
    atomicOr(&wide, 1ull << (t % 40));
    if (t == 9) ok &= atomicCAS(&narrow, 3u, 8u) == 3;
    __syncthreads();
    ok &= wide == (64ull << 40) + (1ull << 40) - 1 && narrow == 8;
    atomicAdd(out + 4 * t, float(ok));  // one block after another adds to the same words
    for (int i = 1; i < 4; ++i) atomicExch(out + 4 * t + i, float(ok));
}
__global__ void arithmetic(float* out) {
    bool ok = __double_as_longlong(1.0) == 0x3ff0000000000000ll && __longlong_as_double(0x4000000000000000ll) == 2.0;
    ok &= __mul64hi(-(1ll << 40), 1ll << 40) == -(1ll << 16) && __umul64hi(1ull << 40, 1ull << 40) == 1ull << 16;
    ok &= __umulhi(0x80000000u, 6u) == 3 && __mulhi(-4, 1 << 30) == -1;
    ok &= __clz(1) == 31 && __clzll(1) == 63 && __clzll(0) == 64 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41 && __ffsll(0) == 0;
    ok &= __brev(1u) == 0x80000000u && __brevll(1ull) == 1ull << 63 && __popcll(~0ull) == 64;
    // (1 + 2^-12)^2 - 1 = 2^-11 + 2^-24: the product rounds the last bit away unless it is fused with the sum.
    float x = 1.0f + ldexpf(1, -12), product = __fmul_rn(x, x);
    ok &= __fadd_rn(product, -1.0f) == ldexpf(1, -11) && x * x - 1.0f == ldexpf(1, -11);
    ok &= fmaf(x, x, -1.0f) == ldexpf(1, -11) + ldexpf(1, -24) && __fmaf_rn(x, x, -1.0f) == fmaf(x, x, -1.0f);
    ok &= __dmul_rn(3.0, 0.5) == 1.5 && __dadd_rn(1.0, 2.0) == 3 && __ddiv_rn(1.0, 4.0) == 0.25 && __fdiv_rn(1.0f, 4.0f) == 0.25f && __fsqrt_rn(9.0f) == 3;
    ok &= __bfloat16_as_ushort(__float2bfloat16(1.00390625f)) == 0x3f80 && __bfloat16_as_ushort(__float2bfloat16(1.01171875f)) == 0x3f82;  // ties to even
    ok &= pack_bf16(1, -2) == 0xc0003f80u && low_bf16(0xc0003f80u) == 1 && high_bf16(0xc0003f80u) == -2;
    ok &= __bfloat16_as_ushort(__float2bfloat16(NAN)) == 0x7fff && __bfloat16_as_ushort(__float2bfloat16(3.4e38f)) == 0x7f80;
    uint4 four = make_uint4(1, 2, 3, 4);
    store_16_bytes(out + 4 * threadIdx.x, four);
    ok &= load_16_bytes(out + 4 * threadIdx.x).z == 3 && __ldcg(reinterpret_cast<const uint2*>(out) + 2 * threadIdx.x).y == 2;
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = ok;
}
__global__ void several_blocks(float* out) {  // 4 blocks, one float per thread
    bool ok = gridDim.x == 4 && blockDim.x == 64;
    out[64 * blockIdx.x + threadIdx.x] = ok;
}
__global__ void bytes_of_neighbours(float* out) {
    __shared__ unsigned char flags[64];
    flags[threadIdx.x] = 1;
    __syncthreads();
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = flags[63 - threadIdx.x];
}
__global__ void all_dynamic_memory(float* out, unsigned last) {
    DYNAMIC_SHARED(float, tile);
    tile[last - threadIdx.x] = 1;
    __syncthreads();
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = tile[last - 63 + threadIdx.x];
}
__global__ void odd_block(float* out) {  // 5 x 3 x 3 threads: a warp and 13 lanes
    unsigned t = threadIdx.x + 5 * (threadIdx.y + 3 * threadIdx.z);
    bool ok = t < 32 ? warp_sum(1) == 32 : __popc(__ballot_sync(all_lanes, 1)) == 13;
    __syncthreads();
    for (unsigned i = t; i < 256; i += 45) out[i] = ok;
}
// The bits of a float sum depend on the order of its terms: what the orders of lanes are for.
__global__ void sum_in_any_order(float* out) {
    atomicAdd(out, 1.0f / float(threadIdx.x * threadIdx.x + 1));
}
__global__ void sum_of_blocks(float* out) {  // blocks meet in one word
    atomicAdd(out, 1.0f);
    if (threadIdx.x == 0) out[1] = 1;
}

static const Planted rows[] = {
    PLANT("", synchronisation, 1, 0),
    PLANT("", lanes_that_left, 1, 0),
    PLANT("", copies_in_two_stages, 1, 0),
    PLANT("", fragments, 1, 0),
    PLANT("", matrix_rows<16>, 1, 0),
    PLANT("", matrix_rows<128>, 1, 0),
    PLANT("", sums, 1, 0),
    PLANT("", atomics, 1, 0),
    PLANT("", arithmetic, 1, 0),
    PLANT("", several_blocks, 4, 0),
    PLANT("", bytes_of_neighbours, 1, 0),
    {__FILE__, "all_dynamic_memory", "", [](float* out) {
        cudaFuncSetAttribute(all_dynamic_memory, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_memory_limit()));
        LAUNCH(all_dynamic_memory, 1, 64, shared_memory_limit(), nullptr, out, shared_memory_limit() / 4 - 1);
        return int32_t(cudaGetLastError());
    }},
    {__FILE__, "odd_block", "", [](float* out) {
        LAUNCH(odd_block, 1, dim3(5, 3, 3), 0, nullptr, out);
        return int32_t(cudaGetLastError());
    }},
};
PLANTED_TABLE(sound, rows)

static const Planted loose_rows[] = {PLANT("", sum_in_any_order, 1, 0), PLANT("", sum_of_blocks, 3, 0)};
PLANTED_TABLE(loose, loose_rows)
