// branches.cuh - what is done with the two branches of O = S + L at an element: sums behind alignment and cancellation,
// and the alignment term's gradient. Shared by alignment.cu and low_rank.cu, so that fused and unfused passes agree.
#pragma once
#include "alignment.h"
#include "common/device.cuh"

// Branch sums of `count` tokens over the features that a thread has seen.
template <int count> struct BranchSums {
    float of[CHTSL_SUMS][count] = {};

    DEVICE void add(int token, float s, float l) {
        float difference = s - l, overlap = fminf(fabsf(s), fabsf(l));
        of[CHTSL_SUM_DIFFERENCE][token] += difference * difference;
        of[CHTSL_SUM_CANCELLED][token] += s * l < 0.0f ? overlap : 0.0f;
        of[CHTSL_SUM_OVERLAP][token] += overlap;
        of[CHTSL_SUM_SPARSE][token] += s * s;
        of[CHTSL_SUM_LOW_RANK][token] += l * l;
    }

    // Adds up lanes whose numbers differ in the bits from `lowest` on; all of them receive the sums.
    DEVICE void join_lanes(int lowest) {
#pragma unroll
        for (int which = 0; which < CHTSL_SUMS; ++which)
#pragma unroll
            for (int i = 0; i < count; ++i)
                for (int step = 16; step >= lowest; step /= 2) of[which][i] += __shfl_xor_sync(all_lanes, of[which][i], step);
    }

    // Leaves them in a part's (CHTSL_SUMS, tokens) patch of shared memory.
    DEVICE void leave(float* patch, uint32_t tokens, uint32_t first) const {
#pragma unroll
        for (int which = 0; which < CHTSL_SUMS; ++which)
#pragma unroll
            for (int i = 0; i < count; ++i) patch[which * tokens + first + i] = of[which][i];
    }
};

// Adds the patches of `parts` in order and stores the sums of a block's tokens. After a barrier; all threads come.
template <uint32_t tokens, uint32_t parts, uint32_t threads> DEVICE void store_branch_sums(const float* patches, float* to, size_t stride) {
    for (uint32_t i = threadIdx.x; i < CHTSL_SUMS * tokens / 4; i += threads) {
        float sum[4] = {};
        for (uint32_t part = 0; part < parts; ++part)
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[j] += patches[part * CHTSL_SUMS * tokens + 4 * i + j];
        uint32_t which = i / (tokens / 4), n = i % (tokens / 4) * 4;
        store_16_bytes(to + which * stride + n, uint4{__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                                                      __float_as_uint(sum[3])});
    }
}

// With D = S - L = o - 2 l: dS = d_o + c D over d_o, dL = d_o - c D.
DEVICE void align(float& d_o, float& d_l, float o, float l, float c) {
    float pull = c * (o - 2.0f * l);
    d_l = d_o - pull;
    d_o = d_o + pull;
}
