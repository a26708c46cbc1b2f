// global.cu - global memory out of bounds, off its alignment, or shared by blocks; launches that a device refuses.
#include "planted.h"

__global__ void read_past_the_end(float* out) {
    out[threadIdx.x] = out[193 + threadIdx.x];
}
__global__ void cached_read_past_the_end(float* out) {
    out[threadIdx.x] = __ldg(out + 193 + threadIdx.x);
}
__global__ void write_before_the_start(float* out) {
    out[int(threadIdx.x) - 1] = 1;
}
__global__ void vector_past_the_end(float* out) {
    store_16_bytes(out + 4 * threadIdx.x + 4, uint4{0, 0, 0, 0});
}
__global__ void atomic_past_the_end(float* out) {
    atomicAdd(out + 193 + threadIdx.x, 1.0f);
}
struct Wide { float numbers[6]; };
__global__ void struct_past_the_end(float* out) {
    *reinterpret_cast<Wide*>(out + 4 * threadIdx.x) = Wide{};
}
__global__ void copy_of_bytes_past_the_end(float* out) {
    memcpy(out + 4 * threadIdx.x, out, out[0] == 0 ? 20 : 4);
}
__constant__ float table[4];
__global__ void write_to_constants(float* out) {
    table[threadIdx.x % 4] = out[threadIdx.x];
    out[threadIdx.x] = table[threadIdx.x / 16];
}
__global__ void null_pointer(float* out) {
    out[threadIdx.x] = *reinterpret_cast<float*>(size_t(out[0]));
}
__global__ void misaligned_vector(float* out) {
    uint4 v = load_16_bytes(out + threadIdx.x + 1);
    out[threadIdx.x] = __uint_as_float(v.x);
}
__global__ void misaligned_plain_vector(float* out) {
    float4 v = *reinterpret_cast<const float4*>(out + threadIdx.x + 1);
    out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
__global__ void misaligned_pair(float* out) {
    *reinterpret_cast<float2*>(out + 1) = make_float2(1, 2);
}
__global__ void misaligned_word(float* out) {
    out[threadIdx.x] = *reinterpret_cast<float*>(reinterpret_cast<char*>(out) + 2);
}
__global__ void blocks_overlap(float* out) {
    out[threadIdx.x] = float(blockIdx.x);
}
__global__ void blocks_exchange(float* out) {
    if (threadIdx.x == 0) out[blockIdx.x] = 1;
    else out[128 + 2 * threadIdx.x + blockIdx.x] = out[blockIdx.x ^ 1];
}
__global__ void trap(float* out) {
    if (out[threadIdx.x] == 0)
        __trap();
}
__global__ void nothing(float*) {}

// What a launch or a call of the runtime refuses. `kernel` is what the text must name.
#define REFUSED(kinds, kernel, ...) {__FILE__, #kernel, kinds, [](float* out) -> int32_t { __VA_ARGS__; return int32_t(cudaGetLastError()); }}

static const Planted rows[] = {
    PLANT("out of bounds", read_past_the_end, 1, 0),
    PLANT("out of bounds", cached_read_past_the_end, 1, 0),
    PLANT("out of bounds", write_before_the_start, 1, 0),
    PLANT("out of bounds", vector_past_the_end, 1, 0),
    PLANT("out of bounds", atomic_past_the_end, 1, 0),
    PLANT("out of bounds", struct_past_the_end, 1, 0),
    PLANT("out of bounds", copy_of_bytes_past_the_end, 1, 0),
    PLANT("out of bounds", write_to_constants, 1, 0),
    PLANT("out of bounds", null_pointer, 1, 0),
    PLANT("misaligned access", misaligned_vector, 1, 0),
#if !defined(__clang__)  // which checks members and references, and not the copy of a whole vector
    PLANT("misaligned access", misaligned_plain_vector, 1, 0),
#endif
    PLANT("misaligned access", misaligned_pair, 1, 0),
    PLANT("misaligned access", misaligned_word, 1, 0),
    PLANT("blocks overlap", blocks_overlap, 2, 0),
    PLANT("blocks overlap", blocks_exchange, 2, 0),
    PLANT("trap", trap, 1, 0),
    REFUSED("bad launch", nothing, LAUNCH(nothing, 1, 2048, 0, nullptr, out)),
    REFUSED("bad launch", nothing, LAUNCH(nothing, 1, dim3(1, 1, 65), 0, nullptr, out)),
    REFUSED("bad launch", nothing, LAUNCH(nothing, 0, 64, 0, nullptr, out)),
    REFUSED("bad launch", nothing, LAUNCH(nothing, dim3(1, 70000), 64, 0, nullptr, out)),
    REFUSED("bad launch", nothing, LAUNCH(nothing, 1, 64, 64 * 1024, nullptr, out)),
    REFUSED("out of bounds", cudaMemsetAsync, cudaMemsetAsync(out + 128, 0, 516, nullptr)),
    REFUSED("out of bounds", cudaMemcpyAsync, cudaMemcpyAsync(out + 129, out, 512, cudaMemcpyDeviceToDevice, nullptr)),
    REFUSED("out of bounds", cudaMemcpyAsync, cudaMemcpyAsync(out, out + 129, 512, cudaMemcpyDeviceToDevice, nullptr)),
};
PLANTED_TABLE(global, rows)
