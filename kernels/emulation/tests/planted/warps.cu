// warps.cu - collectives that lack a lane, or bring together lanes that do different things.
#include "planted.h"

__global__ void mask_without_caller(float* out) {
    out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1);
}
__global__ void mask_of_absent_lanes(float* out) {
    if (threadIdx.x % 32 < 20) out[threadIdx.x] = __shfl_down_sync(all_lanes, 1.0f, 1);
    else __syncthreads();
}
__global__ void source_has_left(float* out) {
    if (threadIdx.x % 32 >= 20) return;
    out[threadIdx.x] = __shfl_down_sync(all_lanes, 1.0f, 1);
}
__global__ void source_outside_mask(float* out) {
    if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 16);
}
__global__ void different_collectives(float* out) {
    if (threadIdx.x % 2) out[threadIdx.x] = __shfl_xor_sync(all_lanes, 1.0f, 1);
    else out[threadIdx.x] = float(__ballot_sync(all_lanes, 1));
}
__global__ void width_of_six(float* out) {
    out[threadIdx.x] = __shfl_sync(all_lanes, 1.0f, 0, 6);
}
__global__ void sum_in_half_a_warp(float* out) {
    if (threadIdx.x % 32 < 16) out[threadIdx.x] = warp_sum(1.0f);
    else __syncthreads();
}
__global__ void mma_in_branch(float* out) {
    float d[4] = {};
    const uint32_t a[4] = {}, b[2] = {};
    if (threadIdx.x < 16) mma_bf16_16x8x16(d, a, b);
    out[threadIdx.x] = d[0];
}
__global__ void mma_at_two_places(float* out) {
    float d[4] = {};
    const uint32_t a[4] = {}, b[2] = {};
    if (threadIdx.x % 2) mma_bf16_16x8x16(d, a, b);
    else
        mma_bf16_16x8x16(d, a, b);
    out[threadIdx.x] = d[0];
}

static const Planted rows[] = {
    PLANT("wrong mask", mask_without_caller, 1, 0),
    PLANT("incomplete warp", mask_of_absent_lanes, 1, 0),
    PLANT("inactive source lane", source_has_left, 1, 0),
    PLANT("inactive source lane", source_outside_mask, 1, 0),
    PLANT("warp mismatch", different_collectives, 1, 0),
    PLANT("bad width", width_of_six, 1, 0),
    PLANT("incomplete warp", sum_in_half_a_warp, 1, 0),
    PLANT("incomplete warp", mma_in_branch, 1, 0),
    PLANT("warp mismatch", mma_at_two_places, 1, 0),
};
PLANTED_TABLE(warps, rows)
