// rebuild.cuh - links after an event: CSR of what was selected, CSC, arrays moved along. Part of topology.cu.
//
// One warp per row counts, one block sums the counts up, one warp per row writes; the CSC through bit masks of 32 rows
// per column. A link's place follows from counts alone, so results do not depend on the order of threads.
#pragma once
#include "topology/cut.cuh"

namespace {

constexpr uint32_t row_warps = 4, scan_threads = 512;

// What a row of the result is made of: links of `w` above the threshold.
struct Kept {
    chtsl_links w;
    const word* keys;
    chtsl_ties ties;
    const Cut* cut;

    DEVICE uint32_t begin(uint32_t row) const { return w.offsets[row]; }
    DEVICE uint32_t end(uint32_t row) const { return w.offsets[row + 1]; }
    DEVICE bool takes(uint32_t row, uint32_t link) const {
        const word key = keys[link];
        if (key != cut->key) return key > cut->key;
        return is_above(*cut, ties, key, link, word(row) * w.cols + w.indices[link]);
    }
    DEVICE uint32_t column(uint32_t, uint32_t link) const { return w.indices[link]; }
    DEVICE uint32_t source(uint32_t, uint32_t link) const { return link; }
};

// Positions that hold a link or were selected; `w` are the links before the event.
struct Joined {
    chtsl_links w;
    const word* keys;
    chtsl_ties ties;
    const Cut* cut;

    DEVICE uint32_t begin(uint32_t row) const { return row * w.cols; }
    DEVICE uint32_t end(uint32_t row) const { return (row + 1) * w.cols; }
    DEVICE bool takes(uint32_t, uint32_t flat) const {
        const word key = keys[flat];
        if (key == linked) return true;
        return key != no_candidate && is_above(*cut, ties, key, flat, flat);
    }
    DEVICE uint32_t column(uint32_t row, uint32_t flat) const { return flat - row * w.cols; }
    DEVICE uint32_t source(uint32_t row, uint32_t flat) const {
        const uint32_t column = flat - row * w.cols;
        uint32_t low = w.offsets[row], high = w.offsets[row + 1];
        const uint32_t end = high;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (w.indices[middle] < column) low = middle + 1;
            else high = middle;
        }
        return low < end && w.indices[low] == column ? low : CHTSL_NONE;
    }
};

// Grid rows / 4, 128 threads: warp w has row 4 b + w. Leaves the length of row m in row_offsets[m + 1].
template <class S> __global__ void __launch_bounds__(32 * row_warps, 8) row_lengths_kernel(S s, uint32_t* row_offsets) {
    const uint32_t lane = threadIdx.x % 32, row = blockIdx.x * row_warps + threadIdx.x / 32;
    if (row >= s.w.rows) return;
    const uint32_t begin = s.begin(row), count = s.end(row) - begin;
    uint32_t length = 0;
#pragma unroll 1
    for (uint32_t i = lane; i < count; i += 32) length += s.takes(row, begin + i);
    length = warp_sum(length);
    if (lane == 0) row_offsets[row + 1] = length;
}

// Grid rows / 4, 128 threads. Lanes look at 32 neighbours at once; a vote tells each how many come before it.
template <class S> __global__ void __launch_bounds__(32 * row_warps) row_links_kernel(S s, const uint32_t* row_offsets, uint32_t* column_indices, uint32_t* source) {
    const uint32_t lane = threadIdx.x % 32, row = blockIdx.x * row_warps + threadIdx.x / 32;
    if (row >= s.w.rows) return;
    const uint32_t begin = s.begin(row), count = s.end(row) - begin;
    uint32_t place = row_offsets[row];
    for (uint32_t first = 0; first < count; first += 32) {
        const uint32_t at = begin + first + lane;
        const bool taken = first + lane < count && s.takes(row, at);
        const unsigned votes = __ballot_sync(all_lanes, taken);
        if (taken) {
            const uint32_t to = place + uint32_t(__popc(votes & ((1u << lane) - 1)));
            column_indices[to] = s.column(row, at);
            source[to] = s.source(row, at);
        }
        place += uint32_t(__popc(votes));
    }
}

// One block. Turns lengths in offsets[1 .. count] into offsets; offsets[0] becomes 0.
__global__ void __launch_bounds__(scan_threads) offsets_kernel(uint32_t* offsets, uint32_t count) {
    __shared__ uint32_t warps[scan_threads / 32];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t carry = 0;
    for (uint32_t first = 0; first < count; first += scan_threads) {
        const uint32_t i = first + threadIdx.x;
        uint32_t sum = i < count ? offsets[i + 1] : 0;
#pragma unroll
        for (uint32_t step = 1; step < 32; step *= 2) {
            const uint32_t other = __shfl_up_sync(all_lanes, sum, step);
            if (lane >= step) sum += other;
        }
        if (lane == 31) warps[warp] = sum;
        __syncthreads();
        uint32_t before = carry;
        for (uint32_t w = 0; w < scan_threads / 32; ++w) {
            if (w < warp) before += warps[w];
            carry += warps[w];
        }
        if (i < count) offsets[i + 1] = before + sum;
        __syncthreads();  // the partial sums may be written again
    }
    if (threadIdx.x == 0) offsets[0] = 0;
}

// For the CSC, 32 rows at a time: bit r of masks[tile, column] tells whether row 32 tile + r has a link there.
// Grid nnz / 256.
__global__ void __launch_bounds__(each_threads) column_masks_kernel(chtsl_links w, uint32_t* masks) {
    const uint32_t link = blockIdx.x * each_threads + threadIdx.x;
    if (link >= w.nnz) return;
    const uint32_t row = row_of_link(w, link);
    atomicOr(&masks[size_t(row / 32) * w.cols + w.indices[link]], 1u << row % 32);
}

// Grid cols / 256. before[tile, column] = links of the column in earlier tiles; the column's length in col_offsets.
__global__ void __launch_bounds__(each_threads) column_lengths_kernel(uint32_t cols, uint32_t tiles, const uint32_t* masks, uint32_t* before, uint32_t* col_offsets) {
    const uint32_t column = blockIdx.x * each_threads + threadIdx.x;
    if (column >= cols) return;
    uint32_t length = 0;
    for (uint32_t tile = 0; tile < tiles; ++tile) {
        before[size_t(tile) * cols + column] = length;
        length += uint32_t(__popc(masks[size_t(tile) * cols + column]));
    }
    col_offsets[column + 1] = length;
}

// Grid nnz / 256: a link's place is its column's start, the links of earlier tiles, and those of lower rows in its own.
__global__ void __launch_bounds__(each_threads) column_links_kernel(chtsl_links w, const uint32_t* masks, const uint32_t* before, const uint32_t* col_offsets, uint32_t* row_indices, uint32_t* source) {
    const uint32_t link = blockIdx.x * each_threads + threadIdx.x;
    if (link >= w.nnz) return;
    const uint32_t row = row_of_link(w, link), column = w.indices[link];
    const size_t cell = size_t(row / 32) * w.cols + column;
    const uint32_t place = col_offsets[column] + before[cell] + uint32_t(__popc(masks[cell] & ((1u << row % 32) - 1)));
    row_indices[place] = row;
    source[place] = link;
}

// Grid count / 256.
__global__ void __launch_bounds__(each_threads) migrate_kernel(const uint32_t* source, uint32_t count, const float* from, float* to) {
    const uint32_t i = blockIdx.x * each_threads + threadIdx.x;
    if (i >= count) return;
    to[i] = source[i] == CHTSL_NONE ? 0.0f : from[source[i]];
}

template <class S> chtsl_status rebuild(const S& s, uint32_t* row_offsets, uint32_t* column_indices, uint32_t* source, chtsl_stream stream) {
    auto on = static_cast<cudaStream_t>(stream);
    const uint32_t rows = s.w.rows;
    if (!row_offsets || !s.cut) return CHTSL_BAD_SHAPE;
    if (rows && !s.keys && s.w.nnz) return CHTSL_BAD_SHAPE;
    if (rows) LAUNCH(row_lengths_kernel<S>, dim3(groups(rows, row_warps)), dim3(32 * row_warps), 0, on, s, row_offsets);
    CHTSL_TRY(launch_status());
    LAUNCH(offsets_kernel, dim3(1), dim3(scan_threads), 0, on, row_offsets, rows);
    CHTSL_TRY(launch_status());
    if (rows) LAUNCH(row_links_kernel<S>, dim3(groups(rows, row_warps)), dim3(32 * row_warps), 0, on, s, row_offsets, column_indices, source);
    return launch_status();
}

}  // namespace
