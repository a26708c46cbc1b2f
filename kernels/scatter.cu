// scatter.cu - between links and dense matrices. Contract: include/scatter.h.
//   v1  one thread per link, which looks its row up; the matrix is cleared before. The oracle on the device
//   v2  one warp per row: the row is cleared with 16-byte stores, then its links are written   <- default
// Both passes touch each link once; the dense matrix is small beside the activations it is multiplied with.
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/links.cuh"
#include "common/shape.cuh"
#include "scatter.h"

namespace {

constexpr uint32_t naive_threads = 128;

// v1. Grid nnz / 128, 128 threads.
template <class T> __global__ void __launch_bounds__(naive_threads) scatter_values_naive_kernel(chtsl_links w, const float* values, T* out, uint32_t stride) {
    uint32_t link = blockIdx.x * naive_threads + threadIdx.x;
    if (link < w.nnz) out[size_t(row_of_link(w, link)) * stride + w.indices[link]] = from_float<T>(values[link]);
}

// v1. Grid nnz / 128, 128 threads.
__global__ void __launch_bounds__(naive_threads) scatter_gather_naive_kernel(chtsl_links w, const float* dense, uint32_t stride, float* dvalues) {
    uint32_t link = blockIdx.x * naive_threads + threadIdx.x;
    if (link < w.nnz) dvalues[link] += dense[size_t(row_of_link(w, link)) * stride + w.indices[link]];
}

constexpr uint32_t scatter_warps = 4;

// v2. Grid rows / 4, 128 threads: warp w has row 4 b + w. Strides are whole 16-byte units.
template <class T> __global__ void __launch_bounds__(32 * scatter_warps) scatter_values_kernel(chtsl_links w, const float* __restrict__ values, T* out, uint32_t stride) {
    uint32_t lane = threadIdx.x % 32, row = blockIdx.x * scatter_warps + threadIdx.x / 32;
    if (row >= w.rows) return;
    T* to = out + size_t(row) * stride;
    constexpr uint32_t unit = 16 / sizeof(T);
    for (uint32_t k = unit * lane; k < stride; k += 32 * unit) store_16_bytes(to + k, uint4{0, 0, 0, 0});
    __syncwarp();  // the zeros of other lanes are in place
    for (uint32_t i = w.offsets[row] + lane; i < w.offsets[row + 1]; i += 32) to[w.indices[i]] = from_float<T>(values[i]);
}

// v2. Grid rows / 4, 128 threads.
__global__ void __launch_bounds__(32 * scatter_warps) scatter_gather_kernel(chtsl_links w, const float* __restrict__ dense, uint32_t stride, float* dvalues) {
    uint32_t lane = threadIdx.x % 32, row = blockIdx.x * scatter_warps + threadIdx.x / 32;
    if (row >= w.rows) return;
    const float* from = dense + size_t(row) * stride;
    for (uint32_t i = w.offsets[row] + lane; i < w.offsets[row + 1]; i += 32) dvalues[i] += from[w.indices[i]];
}

// A dense matrix of the links' extents.
chtsl_status check(const chtsl_links& w, const chtsl_matrix& m) {
    CHTSL_TRY(check_links(w));
    if (m.rows != w.rows || m.cols != w.cols || m.stride < m.cols) return CHTSL_BAD_SHAPE;
    if (m.rows && m.cols && !m.data) return CHTSL_BAD_SHAPE;
    if (m.type != CHTSL_F32 && m.type != CHTSL_BF16) return CHTSL_UNSUPPORTED;
    if (m.stride > largest_extent) return CHTSL_TOO_LARGE;
    return CHTSL_OK;
}

dim3 by_link(const chtsl_links& w) { return dim3((w.nnz + naive_threads - 1) / naive_threads); }
dim3 by_row(const chtsl_links& w) { return dim3((w.rows + scatter_warps - 1) / scatter_warps); }

template <class T> chtsl_status values_to(const chtsl_links& w, const float* values, const chtsl_matrix& out, int32_t version, cudaStream_t stream) {
    switch (version) {
        case 1:
            CHTSL_TRY(chtsl_status(cudaMemsetAsync(out.data, 0, size_t(out.rows) * out.stride * sizeof(T), stream)));
            if (w.nnz) LAUNCH(scatter_values_naive_kernel<T>, by_link(w), dim3(naive_threads), 0, stream, w, values, data<T>(out), out.stride);
            break;
        case 0:
        case 2: LAUNCH(scatter_values_kernel<T>, by_row(w), dim3(32 * scatter_warps), 0, stream, w, values, data<T>(out), out.stride); break;
        default: return CHTSL_UNSUPPORTED;
    }
    return launch_status();
}

}  // namespace

chtsl_status CHTSL_SYMBOL(scatter_values)(chtsl_links w, const float* values, chtsl_matrix out, int32_t version, chtsl_stream stream) {
    CHTSL_TRY(check(w, out));
    if (w.nnz && !values) return CHTSL_BAD_SHAPE;
    if (out.stride * element_bytes(out.type) % 16 || !aligned_16(out.data)) return CHTSL_BAD_ALIGNMENT;
    if (w.rows == 0 || out.stride == 0) return CHTSL_OK;
    auto on = static_cast<cudaStream_t>(stream);
    return out.type == CHTSL_BF16 ? values_to<bf16>(w, values, out, version, on) : values_to<float>(w, values, out, version, on);
}

chtsl_status CHTSL_SYMBOL(scatter_gather)(chtsl_links w, chtsl_matrix dense, float* dvalues, int32_t version, chtsl_stream stream) {
    CHTSL_TRY(check(w, dense));
    if (dense.type != CHTSL_F32) return CHTSL_UNSUPPORTED;
    if (w.nnz && !dvalues) return CHTSL_BAD_SHAPE;
    if (w.rows == 0 || w.nnz == 0) return CHTSL_OK;
    auto on = static_cast<cudaStream_t>(stream);
    switch (version) {
        case 1: LAUNCH(scatter_gather_naive_kernel, by_link(w), dim3(naive_threads), 0, on, w, data<float>(dense), dense.stride, dvalues); break;
        case 0:
        case 2: LAUNCH(scatter_gather_kernel, by_row(w), dim3(32 * scatter_warps), 0, on, w, data<float>(dense), dense.stride, dvalues); break;
        default: return CHTSL_UNSUPPORTED;
    }
    return launch_status();
}
