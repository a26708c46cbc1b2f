// copies.cu - cp.async that is not waited for, not committed, not fenced, or misdirected; ldmatrix from elsewhere.
#include "planted.h"

__global__ void copy_without_wait(float* out) {
    __shared__ __align__(16) float tile[256];
    copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    copy_async_commit();
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}
__global__ void copy_waits_for_older_group(float* out) {
    __shared__ __align__(16) float tile[512];
    for (int i = 0; i < 2; ++i) {
        copy_async_16(tile + 256 * i + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
        copy_async_commit();
    }
    copy_async_wait<1>();
    __syncthreads();
    float got = tile[256 + threadIdx.x];
    copy_async_wait<0>();
    out[threadIdx.x] = got;
}
__global__ void copy_without_commit(float* out) {
    __shared__ __align__(16) float tile[256];
    copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    copy_async_wait<0>();
    out[threadIdx.x] = tile[4 * threadIdx.x];
}
__global__ void copy_without_barrier(float* out) {
    __shared__ __align__(16) float tile[256];
    copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    copy_async_commit();
    copy_async_wait<0>();
    out[threadIdx.x] = tile[threadIdx.x];
}
__global__ void copy_over_readers(float* out) {  // the stage is refilled while others may still read it
    __shared__ __align__(16) float tile[256];
    float sum = 0;
    for (int round = 0; round < 2; ++round) {
        copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        sum += tile[threadIdx.x];
    }
    __syncthreads();
    out[threadIdx.x] = sum;
}
__global__ void copy_never_finished(float* out) {
    __shared__ __align__(16) float tile[256];
    copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    copy_async_commit();
}
__global__ void copy_past_the_end(float* out) {
    __shared__ __align__(16) float tile[512];
    copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x + 4, true);
    copy_async_commit();
    copy_async_wait<0>();
}
__global__ void copy_past_dynamic_memory(float* out) {
    DYNAMIC_SHARED(float, tile);
    copy_async_16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    copy_async_commit();
    copy_async_wait<0>();
}
__global__ void copy_from_shared(float* out) {
    __shared__ __align__(16) float tile[512];
    copy_async_16(tile + 4 * threadIdx.x, tile + 256, true);
    copy_async_commit();
    copy_async_wait<0>();
    out[threadIdx.x] = 1;
}
__global__ void copy_to_global(float* out) {
    copy_async_16(out + 4 * threadIdx.x, out, true);
    copy_async_commit();
    copy_async_wait<0>();
}
__global__ void misaligned_copy(float* out) {
    __shared__ __align__(16) float tile[256];
    copy_async_16(tile + threadIdx.x, out, true);
    copy_async_commit();
    copy_async_wait<0>();
}
__global__ void matrix_from_global(float* out) {
    uint32_t r[1];
    load_matrix<1, false>(r, out + 4 * (threadIdx.x % 8));
    out[threadIdx.x] = __uint_as_float(r[0]);
}
__global__ void misaligned_matrix(float* out) {
    __shared__ __align__(16) float tile[128];
    tile[threadIdx.x] = tile[64 + threadIdx.x] = 1;
    __syncthreads();
    uint32_t r[1];
    load_matrix<1, false>(r, tile + 2 * (threadIdx.x % 8));
    out[threadIdx.x] = __uint_as_float(r[0]);
}

static const Planted rows[] = {
    PLANT("copy in flight", copy_without_wait, 1, 0),
    PLANT("copy in flight", copy_waits_for_older_group, 1, 0),
    PLANT("copy in flight", copy_without_commit, 1, 0),
    PLANT("shared memory race,uninitialised shared memory", copy_without_barrier, 1, 0),
    PLANT("shared memory race", copy_over_readers, 1, 0),
    PLANT("unfinished copy", copy_never_finished, 1, 0),
    PLANT("out of bounds", copy_past_the_end, 1, 0),
    PLANT("out of bounds", copy_past_dynamic_memory, 1, 1008),
    PLANT("wrong memory space", copy_from_shared, 1, 0),
    PLANT("wrong memory space", copy_to_global, 1, 0),
    PLANT("misaligned access", misaligned_copy, 1, 0),
    PLANT("wrong memory space", matrix_from_global, 1, 0),
    PLANT("misaligned access", misaligned_matrix, 1, 0),
};
PLANTED_TABLE(copies, rows)
