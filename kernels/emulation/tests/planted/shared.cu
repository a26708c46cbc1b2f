// shared.cu - shared memory that nobody wrote, that ends earlier, or that two threads use with no order between them.
#include "planted.h"

__global__ void uninitialised_static(float* out) {
    __shared__ float tile[64];
    if (threadIdx.x != 5) tile[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
__global__ void uninitialised_dynamic(float* out) {
    DYNAMIC_SHARED(float, tile);
    out[threadIdx.x] = tile[threadIdx.x];
}
__global__ void uninitialised_sum(float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] += out[threadIdx.x];
    out[threadIdx.x] = tile[threadIdx.x];
}
__global__ void dynamic_overrun(float* out) {
    DYNAMIC_SHARED(float, tile);
    tile[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x + 1];
}
__global__ void static_overrun(float* out) {
    __shared__ float tile[64], other[64];
    tile[threadIdx.x + (threadIdx.x == 63)] = 1;
    other[threadIdx.x] = 2;
    __syncthreads();
    out[threadIdx.x] = tile[0] + other[0];
}
struct Stage { float first[64], last[64]; };
__global__ void overrun_within_a_union(float* out) {
    __shared__ union { Stage stage; float rows[2][32]; } memory;
    memory.stage.last[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = memory.rows[2 + threadIdx.x / 32][threadIdx.x % 32];
}
__global__ void missing_barrier(float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
__global__ void missing_second_barrier(float* out) {  // write after read
    __shared__ float tile[64];
    float sum = 0;
    for (int round = 0; round < 3; ++round) {
        tile[threadIdx.x] = float(round);
        __syncthreads();
        sum += tile[63 - threadIdx.x];
    }
    out[threadIdx.x] = sum;
}
template <int width> __global__ void race_in_template(float* out) {  // the array of a template is another kind of symbol
    __shared__ float tile[width];
    tile[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[width - 1 - threadIdx.x];
    tile[threadIdx.x] = 2;
}
__global__ void race_of_bf16(float* out) {
    __shared__ bf16 tile[64];
    tile[threadIdx.x] = __float2bfloat16(1);
    out[threadIdx.x] = __bfloat162float(tile[threadIdx.x ^ 33]);
}
__global__ void everybody_writes(float* out) {
    __shared__ float total;
    total = float(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = total;
}
__global__ void missing_warp_barrier(float* out) {  // right on lockstep hardware only
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    out[threadIdx.x] = tile[threadIdx.x ^ 1];
}
__global__ void shuffle_is_no_fence(float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    float one = __shfl_xor_sync(all_lanes, 1.0f, 1);
    out[threadIdx.x] = one + tile[threadIdx.x ^ 1];
}
__global__ void warp_barrier_is_too_weak(float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    __syncwarp();
    out[threadIdx.x] = tile[threadIdx.x ^ 32];
}
__global__ void wrong_named_barrier(float* out) {  // each half meets itself, not the other
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    named_barrier(1 + threadIdx.x / 32, 32);
    out[threadIdx.x] = tile[threadIdx.x ^ 32];
}
__global__ void atomic_then_plain(float* out) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);
    out[threadIdx.x] = float(count);
}

#define EARLY_OR_LATE "shared memory race,uninitialised shared memory"
static const Planted rows[] = {
    PLANT("uninitialised shared memory", uninitialised_static, 1, 0),
    PLANT("uninitialised shared memory", uninitialised_dynamic, 1, 256),
    PLANT("uninitialised shared memory", uninitialised_sum, 1, 0),
    PLANT("out of bounds", dynamic_overrun, 1, 256),
    PLANT("out of bounds", static_overrun, 1, 0),
#if !defined(__clang__)  // which takes the last array of a struct for one without an end
    PLANT("out of bounds", overrun_within_a_union, 1, 0),
#endif
    PLANT(EARLY_OR_LATE, missing_barrier, 1, 0),
    PLANT("shared memory race", missing_second_barrier, 1, 0),
    PLANT("shared memory race", race_in_template<64>, 1, 0),
    PLANT(EARLY_OR_LATE, race_of_bf16, 1, 0),
    PLANT("shared memory race", everybody_writes, 1, 0),
    PLANT(EARLY_OR_LATE, missing_warp_barrier, 1, 0),
    PLANT(EARLY_OR_LATE, shuffle_is_no_fence, 1, 0),
    PLANT(EARLY_OR_LATE, warp_barrier_is_too_weak, 1, 0),
    PLANT(EARLY_OR_LATE, wrong_named_barrier, 1, 0),
    PLANT("shared memory race", atomic_then_plain, 1, 0),
};
PLANTED_TABLE(shared, rows)
