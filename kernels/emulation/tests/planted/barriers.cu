// barriers.cu - barriers that not everybody reaches.
#include "planted.h"

__global__ void barrier_in_branch(float* out) {
    if (threadIdx.x < 40) __syncthreads();
    else { out[threadIdx.x] = 1; __syncthreads(); }
}
__global__ void barrier_after_return(float* out) {
    if (threadIdx.x >= 50) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}
__global__ void barrier_in_uneven_loop(float* out) {
    for (unsigned i = 0; i <= threadIdx.x / 32; ++i)
        __syncthreads();
    out[threadIdx.x] = 1;
}
__global__ void vote_in_branch(float* out) {
    if (threadIdx.x < 32) out[threadIdx.x] = float(__syncthreads_or(1));
}
__global__ void block_sum_in_branch(float* out) {
    if (threadIdx.x != 5)
        out[threadIdx.x] = block_sum<64>(1.0f);
}
__global__ void named_barrier_of_half_a_warp(float* out) {
    named_barrier(1, 48);
    out[threadIdx.x] = 1;
}
__global__ void named_barrier_16(float* out) {
    named_barrier(16, 64);
    out[threadIdx.x] = 1;
}
__global__ void named_barriers_disagree(float* out) {
    named_barrier(1, threadIdx.x < 32 ? 32 : 64);
    out[threadIdx.x] = 1;
}

static const Planted rows[] = {
    PLANT("divergent barrier", barrier_in_branch, 1, 0),
    PLANT("divergent barrier", barrier_after_return, 1, 0),
    PLANT("divergent barrier", barrier_in_uneven_loop, 1, 0),
    PLANT("divergent barrier", vote_in_branch, 1, 0),
    // The warp of thread 5 lacks a lane, or has lost it already.
    PLANT("incomplete warp,inactive source lane", block_sum_in_branch, 1, 0),
    PLANT("bad barrier", named_barrier_of_half_a_warp, 1, 0),
    PLANT("bad barrier", named_barrier_16, 1, 0),
    PLANT("divergent barrier", named_barriers_disagree, 1, 0),
};
PLANTED_TABLE(barriers, rows)
