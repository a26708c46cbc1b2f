// select.cuh - threshold of the k best candidates in the order (key, tie word, lower position). Part of topology.cu.
//
// Radix selection: digits of 11 bits from the top, a histogram of the candidates that equal the threshold so far, then
// one block picks the digit. At most fifteen digits: six of the key, six of the tie word, three of the position. The
// later ones matter only while candidates are equal so far and not all of them fit; passes past the decision return at
// once. The threshold is a property of the set, so neither histograms nor the grid can change it; counts are integers,
// their order is free.
#pragma once
#include "topology/cut.cuh"

namespace {

constexpr uint32_t count_threads = 512, count_blocks = 528, pick_threads = 256;
constexpr uint32_t bins_per_thread = select_bins / pick_threads;
static_assert(select_bins % pick_threads == 0, "whole bins per thread");

struct Candidates {
    chtsl_links w;
    const word* keys;
    uint32_t count;
    bool per_link;
    chtsl_ties ties;

    DEVICE word flat(uint32_t i) const { return per_link ? word(row_of_link(w, i)) * w.cols + w.indices[i] : i; }
};

enum Part { key_part, tie_part, order_part };

// One digit: `bits` from `shift` on of a part.
struct Digit {
    Part part;
    uint32_t shift, bits;
};

// Whether `x` agrees with what is known of the threshold `t` above the digit.
DEVICE bool agrees(word x, word t, const Digit& d) { return d.shift + d.bits >= 64 || (x ^ t) >> (d.shift + d.bits) == 0; }

// One thread. Nothing is selected when k is 0: no candidate's key is that of a link.
__global__ void __launch_bounds__(1) begin_kernel(Cut* cut, uint32_t k) {
    cut->key = k == 0 ? linked : 0;
    cut->tie = 0;
    cut->order = 0;
    cut->remaining = k;
    cut->done = k == 0;
    cut->unused = 0;
}

// Grid up to 528 blocks, which go over the candidates; a histogram of the block in shared memory is added to the cut's.
__global__ void __launch_bounds__(count_threads) count_kernel(Candidates c, Cut* cut, Digit d) {
    __shared__ uint32_t bins[select_bins];
    if (cut->done) return;  // the same for all threads
    for (uint32_t i = threadIdx.x; i < select_bins; i += count_threads) bins[i] = 0;
    __syncthreads();
    const word key_so_far = cut->key, tie_so_far = cut->tie, order_so_far = cut->order;
    const uint32_t step = gridDim.x * count_threads, mask = (1u << d.bits) - 1;
    for (word j = blockIdx.x * count_threads + threadIdx.x; j < c.count; j += step) {
        const uint32_t i = uint32_t(j);
        word x = c.keys[i];
        if (!is_candidate(x)) continue;
        if (d.part == key_part) {
            if (!agrees(x, key_so_far, d)) continue;
        } else {
            if (x != key_so_far) continue;
            x = tie_word(c.ties, c.ties.random ? c.flat(i) : 0);
            if (d.part == tie_part) {
                if (!agrees(x, tie_so_far, d)) continue;
            } else {
                if (x != tie_so_far) continue;
                x = word(~i);
                if (!agrees(x, order_so_far, d)) continue;
            }
        }
        atomicAdd(&bins[uint32_t(x >> d.shift) & mask], 1u);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < select_bins; i += count_threads)
        if (bins[i]) atomicAdd(&cut->histogram[i], bins[i]);
}

// One block. Thread t has the bins from 2047 - 8 t downwards: a sum from the left is the number of better candidates.
// The digit is that of the bin where the remaining candidates run out. Leaves the histogram zero.
__global__ void __launch_bounds__(pick_threads) pick_kernel(Cut* cut, Digit d) {
    __shared__ uint32_t warps[pick_threads / 32];
    if (cut->done) return;
    const uint32_t remaining = cut->remaining, lane = threadIdx.x % 32;
    uint32_t mine[bins_per_thread], sum = 0;
#pragma unroll
    for (uint32_t b = 0; b < bins_per_thread; ++b) {
        uint32_t& bin = cut->histogram[select_bins - 1 - (threadIdx.x * bins_per_thread + b)];
        mine[b] = bin;
        bin = 0;
        sum += mine[b];
    }
    uint32_t above = sum;  // inclusive so far
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(all_lanes, above, step);
        if (lane >= step) above += other;
    }
    if (lane == 31) warps[threadIdx.x / 32] = above;
    __syncthreads();  // and everyone has read the cut
    uint32_t before = 0, total = 0;
    for (uint32_t w = 0; w < pick_threads / 32; ++w) {
        if (w < threadIdx.x / 32) before += warps[w];
        total += warps[w];
    }
    above += before - sum;
    if (total <= remaining) {
        // Only the first digit can run out: later ones look at more candidates than remain. All are selected.
        if (threadIdx.x == 0) cut->key = 1, cut->done = 1;
        return;
    }
#pragma unroll
    for (uint32_t b = 0; b < bins_per_thread; ++b) {
        if (above < remaining && remaining <= above + mine[b]) {
            const word digit = word(select_bins - 1 - (threadIdx.x * bins_per_thread + b)) << d.shift;
            if (d.part == key_part) cut->key |= digit;
            else if (d.part == tie_part) cut->tie |= digit;
            else cut->order |= uint32_t(digit);
            cut->remaining = remaining - above;
            cut->done = mine[b] == remaining - above;
        }
        above += mine[b];
    }
}

}  // namespace
