// keys.cuh - keys of links and of missing links. Part of topology.cu.
// One thread per link or position. A soft key costs a Philox block and three logarithms in f64.
#pragma once
#include "topology/cut.cuh"

namespace {

constexpr double score_unit = 1.0 / 68719476736.0;  // 2^-36
constexpr double zero_score_floor = 1e-5;           // src/topology/regrowth/mod.rs

DEVICE double soft_key(const chtsl_rank& rank, double x, word flat) {
    return __dadd_rn(__dmul_rn(rank.temperature, exact_ln(x)), gumbel(rank.draws, flat));
}

// Grid nnz / 256.
__global__ void __launch_bounds__(each_threads) removal_keys_kernel(chtsl_links w, const float* values, chtsl_rank rank, word* keys, uint32_t* refused) {
    const uint32_t link = blockIdx.x * each_threads + threadIdx.x;
    if (link >= w.nnz) return;
    const uint32_t bits = __float_as_uint(values[link]) & 0x7fffffffu;
    double key;
    if (bits >= 0x7f800000u) {
        atomicMin(refused, link);
        key = __longlong_as_double(static_cast<long long>(0xfff0000000000000ull));
    } else {
        key = static_cast<double>(__uint_as_float(bits));
        if (rank.soft) {
            const word flat = word(row_of_link(w, link)) * w.cols + w.indices[link];
            key = bits == 0 ? __longlong_as_double(static_cast<long long>(0xfff0000000000000ull)) : soft_key(rank, key, flat);
        }
    }
    keys[link] = order_bits(key);
}

// Grid up to 2048 blocks, which go over the positions.
__global__ void __launch_bounds__(each_threads) regrowth_keys_kernel(word positions, const word* positives, uint32_t n, chtsl_rank rank, word* scores) {
    const double floor = positives[0] < n ? zero_score_floor : 0.0;
    for (word flat = word(blockIdx.x) * each_threads + threadIdx.x; flat < positions; flat += word(gridDim.x) * each_threads) {
        const word fixed = scores[flat];
        if (fixed == linked) continue;
        const double score = __dadd_rn(__dmul_rn(static_cast<double>(fixed), score_unit), floor);
        word key = no_candidate;
        if (score > 0.0) {
            if (!rank.soft) key = order_bits(score);
            else key = order_bits(rank.temperature == 0.0 ? gumbel(rank.draws, flat) : soft_key(rank, score, flat));
        }
        scores[flat] = key;
    }
}

}  // namespace
