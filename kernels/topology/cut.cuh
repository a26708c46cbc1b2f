// cut.cuh - what the steps of an event share: the threshold that a selection leaves behind and what lies above it, the
// marks among keys, and grids. Part of topology.cu.
#pragma once
#include "common/links.cuh"
#include "common/philox.cuh"
#include "common/shape.cuh"
#include "topology.h"

namespace {

constexpr uint32_t select_bins = 2048;

// Marks among keys and scores: below and above whatever a number can become.
constexpr word no_candidate = 0, linked = ~word(0);

// Start of `cut`: the worst selected candidate, or a bound below it that no other candidate reaches.
struct Cut {
    word key;
    word tie;
    uint32_t order;      // ~position
    uint32_t remaining;  // candidates still to be found among those that equal the threshold so far
    uint32_t done;
    uint32_t unused;
    uint32_t histogram[select_bins];
};

DEVICE word tie_word(const chtsl_ties& ties, word flat) {
    if (!ties.random) return 0;
    const uint4 w = philox(ties.draws, flat);
    return word(w.z) << 32 | w.w;
}

DEVICE bool is_candidate(word key) { return key != no_candidate && key != linked; }

// Whether a candidate was selected: (key, tie word, lower position) at or above the threshold. `position` is what the
// selection numbered, `flat` the place in the matrix; they have the same order.
DEVICE bool is_above(const Cut& cut, const chtsl_ties& ties, word key, uint32_t position, word flat) {
    if (key != cut.key) return key > cut.key;
    if (cut.tie == 0 && cut.order == 0) return true;
    const word tie = tie_word(ties, flat);
    if (tie != cut.tie) return tie > cut.tie;
    return ~position >= cut.order;
}

// Positions that 32 bits can number.
chtsl_status check_positions(uint32_t rows, uint32_t cols) {
    if (rows > largest_extent || cols > largest_extent || uint64_t(rows) * cols > 0xfffffffeu) return CHTSL_TOO_LARGE;
    return CHTSL_OK;
}

// One thread per link or position, 256 to a block; sweeps over positions have at most 2048 blocks.
constexpr uint32_t each_threads = 256, each_blocks = 2048;

uint32_t groups(uint64_t count, uint32_t size) { return uint32_t(count / size + (count % size != 0)); }
uint32_t sweep(uint64_t count) { return min(groups(count, each_threads), each_blocks); }

}  // namespace
