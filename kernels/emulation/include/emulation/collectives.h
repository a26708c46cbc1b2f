// collectives.h - what several threads do together: barriers, shuffles, votes, reductions.
#pragma once
#include "emulation/language.h"

namespace emulation {
void barrier(unsigned id, unsigned threads, Site site);  // threads = 0: the whole block
enum class Vote { any, all, count };
int barrier_vote(Vote vote, int predicate, Site site);
void warp_barrier(unsigned mask, Site site);
enum class Shuffle { index, up, down, exclusive_or };
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t bits, int argument, int width, Site site);
enum class Reduce { ballot, any, all, add, min_signed, max_signed, min_unsigned, max_unsigned, bit_and, bit_or, bit_xor };
unsigned reduce(Reduce kind, unsigned mask, unsigned value, Site site);

// What the lanes of a warp brought to a collective. `combine` runs once, when the last named lane arrives, and fills
// every taking lane's `out`. Both the shuffles below and the matrix wrappers of common/matrix.cuh are written with it.
struct Lanes {
    unsigned mask;           // lanes that arrived
    const unsigned* in[32];  // null for the others
    unsigned* out[32];
};
using Combine = void (*)(const Lanes&);
constexpr int max_in = 10, max_out = 4;  // words per lane: mma.m16n8k16 brings 4 + 2 + 4 and takes 4
// `aligned`: PTX .aligned, every lane of the warp must stand at the same instruction.
void collective(const char* name, Combine combine, bool aligned, unsigned mask, const unsigned* in, int in_words,
                unsigned* out, int out_words, Site site);

template <class T> T shuffle_value(Shuffle kind, unsigned mask, T value, int argument, int width, Site site) {
    static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8, "shuffles carry 4 or 8 bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = shuffle(kind, mask, bits, argument, width, site);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
}  // namespace emulation

inline void __syncthreads(EMULATION_SITE) { emulation::barrier(0, 0, site); }
inline int __syncthreads_or(int p, EMULATION_SITE) { return emulation::barrier_vote(emulation::Vote::any, p, site); }
inline int __syncthreads_and(int p, EMULATION_SITE) { return emulation::barrier_vote(emulation::Vote::all, p, site); }
inline int __syncthreads_count(int p, EMULATION_SITE) { return emulation::barrier_vote(emulation::Vote::count, p, site); }
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATION_SITE) { emulation::warp_barrier(mask, site); }

template <class T> T __shfl_sync(unsigned mask, T v, int lane, int width = 32, EMULATION_SITE) {
    return emulation::shuffle_value(emulation::Shuffle::index, mask, v, lane, width, site);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, EMULATION_SITE) {
    return emulation::shuffle_value(emulation::Shuffle::up, mask, v, int(delta), width, site);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, EMULATION_SITE) {
    return emulation::shuffle_value(emulation::Shuffle::down, mask, v, int(delta), width, site);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, EMULATION_SITE) {
    return emulation::shuffle_value(emulation::Shuffle::exclusive_or, mask, v, bits, width, site);
}

#define EMULATION_REDUCE(name, type, kind)                                                \
    inline type name(unsigned mask, type v, EMULATION_SITE) {                             \
        return type(emulation::reduce(emulation::Reduce::kind, mask, unsigned(v), site)); \
    }
EMULATION_REDUCE(__reduce_add_sync, int, add)
EMULATION_REDUCE(__reduce_add_sync, unsigned, add)
EMULATION_REDUCE(__reduce_min_sync, int, min_signed)
EMULATION_REDUCE(__reduce_max_sync, int, max_signed)
EMULATION_REDUCE(__reduce_min_sync, unsigned, min_unsigned)
EMULATION_REDUCE(__reduce_max_sync, unsigned, max_unsigned)
EMULATION_REDUCE(__reduce_and_sync, unsigned, bit_and)
EMULATION_REDUCE(__reduce_or_sync, unsigned, bit_or)
EMULATION_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
inline unsigned __ballot_sync(unsigned mask, int p, EMULATION_SITE) {
    return emulation::reduce(emulation::Reduce::ballot, mask, p != 0, site);
}
inline int __any_sync(unsigned mask, int p, EMULATION_SITE) {
    return int(emulation::reduce(emulation::Reduce::any, mask, p != 0, site));
}
inline int __all_sync(unsigned mask, int p, EMULATION_SITE) {
    return int(emulation::reduce(emulation::Reduce::all, mask, p != 0, site));
}
