// scores.cuh - CH2-L3n of every missing link of a matrix. Part of topology.cu.
//
// Version 2: one block per 1 to 8 seeds of a side. Common neighbours are counted in shared memory along the paths of
// length two and turned into terms in place, then every thread sums the terms of the members of one node of the other
// side. Rows as seeds write the scores, columns as seeds add to them.
//
// Terms are integers in units of 2^-36 and sums wrap: the order of additions is free, as on the host. The terms of a
// seed take 8 bytes per node of its side; the number of seeds is what fits, fewer where blocks would be too few.
#pragma once
#include "topology/cut.cuh"

namespace {

// Nodes of one side of the bipartite graph with their neighbours on the other.
struct Side {
    const uint32_t* offsets;
    const uint32_t* indices;
    uint32_t nodes;

    DEVICE uint32_t degree(uint32_t node) const { return offsets[node + 1] - offsets[node]; }
};

// (1 + common) / (degree - common) in fixed point, 0 without common neighbours. When the denominator is 0 every
// neighbour of the member is linked to the seed already: the term reaches no candidate.
DEVICE word term(uint32_t common, uint32_t degree) {
    if (common == 0) return 0;
    const uint32_t outside = degree > common ? degree - common : 1;
    const double units = __dmul_rn(__dadd_rn(1.0, static_cast<double>(common)), 68719476736.0);
    return static_cast<word>(static_cast<long long>(__dadd_rn(__ddiv_rn(units, static_cast<double>(outside)), 0.5)));
}

// Common neighbours of two nodes: their sorted lists are walked together.
DEVICE uint32_t common_neighbours(const Side& s, uint32_t a, uint32_t b) {
    uint32_t i = s.offsets[a], j = s.offsets[b], count = 0;
    while (i < s.offsets[a + 1] && j < s.offsets[b + 1]) {
        const uint32_t x = s.indices[i], y = s.indices[j];
        count += x == y;
        i += x <= y;
        j += y <= x;
    }
    return count;
}

// Sum of the terms of the own-side members linked to `x` of the other side, for `seed` of the own side.
DEVICE word naive_half(const Side& own, const Side& other, uint32_t seed, uint32_t x) {
    word sum = 0;
    for (uint32_t i = other.offsets[x]; i < other.offsets[x + 1]; ++i) {
        const uint32_t member = other.indices[i];
        sum += term(common_neighbours(own, seed, member), own.degree(member));
    }
    return sum;
}

constexpr uint32_t half_threads = 512;

// v1. Grid positions / 256.
__global__ void __launch_bounds__(each_threads) scores_naive_kernel(Side rows, Side cols, word* scores) {
    const word flat = word(blockIdx.x) * each_threads + threadIdx.x;
    if (flat >= word(rows.nodes) * cols.nodes) return;
    const uint32_t row = uint32_t(flat / cols.nodes), column = uint32_t(flat % cols.nodes);
    bool exists = false;
    for (uint32_t i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i) exists |= rows.indices[i] == column;
    scores[flat] = exists ? linked : naive_half(rows, cols, row, column) + naive_half(cols, rows, column, row);
}

// v2. Grid own / seeds, 512 threads, own * seeds words of dynamic shared memory: terms[member][seed]. The score of
// (seed, node of the other side) lies at seed * own_stride + node * other_stride.
template <uint32_t seeds, bool accumulate> __global__ void __launch_bounds__(half_threads, seeds == 8 ? 1 : 2) half_kernel(Side own, Side other, word* scores, size_t own_stride, size_t other_stride) {
    DYNAMIC_SHARED(word, terms);
    const uint32_t first = blockIdx.x * seeds, last = min(first + seeds, own.nodes);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (uint32_t i = threadIdx.x; i < own.nodes * seeds; i += half_threads) terms[i] = 0;
    __syncthreads();
    // Paths seed - b - member: a warp per link of the seeds, whose lists are neighbours in memory. Counts use the lower
    // half of the terms' words.
    for (uint32_t link = own.offsets[first] + warp; link < own.offsets[last]; link += half_threads / 32) {
        const uint32_t b = own.indices[link];
        uint32_t seed = 0;
        while (link >= own.offsets[first + seed + 1]) ++seed;
        for (uint32_t i = other.offsets[b] + lane; i < other.offsets[b + 1]; i += 32)
            atomicAdd(reinterpret_cast<unsigned*>(terms + other.indices[i] * seeds + seed), 1u);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < own.nodes * seeds; i += half_threads)
        terms[i] = term(*reinterpret_cast<const unsigned*>(terms + i), own.degree(i / seeds));
    __syncthreads();
    for (uint32_t x = threadIdx.x; x < other.nodes; x += half_threads) {
        word sum[seeds] = {};
        for (uint32_t i = other.offsets[x]; i < other.offsets[x + 1]; ++i) {
            const word* member = terms + other.indices[i] * seeds;
            if constexpr (seeds == 1) {
                sum[0] += member[0];
            } else {
#pragma unroll
                for (uint32_t seed = 0; seed < seeds; seed += 2) {  // 16 bytes at once
                    const ulonglong2 two = *reinterpret_cast<const ulonglong2*>(member + seed);
                    sum[seed] += two.x, sum[seed + 1] += two.y;
                }
            }
        }
#pragma unroll
        for (uint32_t seed = 0; seed < seeds; ++seed) {
            if (first + seed >= last) continue;
            word& to = scores[(first + seed) * own_stride + x * other_stride];
            to = accumulate ? to + sum[seed] : sum[seed];
        }
    }
}

// Grid nnz / 256. Sums at links are meaningless: the mark takes their place.
__global__ void __launch_bounds__(each_threads) mark_kernel(chtsl_links w, word* scores) {
    const uint32_t link = blockIdx.x * each_threads + threadIdx.x;
    if (link < w.nnz) scores[word(row_of_link(w, link)) * w.cols + w.indices[link]] = linked;
}

// Grid up to 2048 blocks, which go over the positions.
__global__ void __launch_bounds__(each_threads) positives_kernel(word positions, const word* scores, word* positives) {
    word count = 0;
    for (word flat = word(blockIdx.x) * each_threads + threadIdx.x; flat < positions; flat += word(gridDim.x) * each_threads)
        count += scores[flat] != 0 && scores[flat] != linked;
    count = warp_sum(count);
    if (threadIdx.x % 32 == 0 && count) atomicAdd(positives, count);
}

template <bool accumulate, uint32_t seeds>
chtsl_status launch_half(const Side& own, const Side& other, word* scores, size_t own_stride, size_t other_stride, cudaStream_t stream) {
    const uint32_t bytes = own.nodes * seeds * uint32_t(sizeof(word));
    const cudaError_t error = cudaFuncSetAttribute(half_kernel<seeds, accumulate>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    if (error != cudaSuccess) return chtsl_status(error);
    LAUNCH((half_kernel<seeds, accumulate>), dim3(groups(own.nodes, seeds)), dim3(half_threads), bytes, stream, own, other, scores, own_stride, other_stride);
    return launch_status();
}

// Seeds per block: as many as leave room for a second block, up to four if only one block fits, and few enough for some
// 128 blocks. 0 when not even one seed fits.
uint32_t seeds_per_block(uint32_t nodes) {
    const uint64_t seed = uint64_t(nodes) * sizeof(word), limit = shared_memory_limit();
    auto most = [&](uint64_t room) { return 8 * seed <= room ? 8u : 4 * seed <= room ? 4u : 2 * seed <= room ? 2u : seed <= room ? 1u : 0u; };
    uint32_t seeds = max(most(limit / 2), min(4u, most(limit)));
    while (seeds > 1 && nodes / seeds < 128) seeds /= 2;
    return seeds;
}

template <bool accumulate>
chtsl_status one_side(uint32_t seeds, const Side& own, const Side& other, word* scores, size_t own_stride, size_t other_stride, cudaStream_t stream) {
    switch (seeds) {
        case 8: return launch_half<accumulate, 8>(own, other, scores, own_stride, other_stride, stream);
        case 4: return launch_half<accumulate, 4>(own, other, scores, own_stride, other_stride, stream);
        case 2: return launch_half<accumulate, 2>(own, other, scores, own_stride, other_stride, stream);
        case 1: return launch_half<accumulate, 1>(own, other, scores, own_stride, other_stride, stream);
        default: return CHTSL_UNSUPPORTED;
    }
}

}  // namespace
