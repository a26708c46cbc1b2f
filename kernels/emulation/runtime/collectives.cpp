// collectives.cpp - what the lanes of a warp do together. Lanes leave their operands in their fiber; the last one to
// arrive computes for all.
#include <algorithm>
#include <cstring>
#include "worker.h"

namespace emulation {
void Worker::try_collective(Fiber& f) {
    unsigned first = f.id / 32 * 32;
    uint32_t gone = lanes_done[first / 32], present = lanes_waiting[first / 32] & f.mask;
    if ((present | (f.aligned ? 0 : gone & f.mask)) != f.mask) return;  // somebody is still on the way
    Lanes lanes{};
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(present >> lane & 1)) continue;
        Fiber& other = fibers[first + lane];
        bool same = other.combine == f.combine && other.mask == f.mask && !std::strcmp(other.name, f.name) &&
                    (!f.aligned || (other.site.line == f.site.line && !std::strcmp(other.site.file, f.site.file)));
        if (!same) {
            if (!(other.mask >> f.id % 32 & 1)) return;  // it is busy in a group without us and may come later
            raise("warp mismatch", print("lane %u is in %s (mask %08x) at ", f.id % 32, f.name, f.mask) + text(f.place()) +
                                       print(", lane %u in %s (mask %08x) at ", lane, other.name, other.mask) + text(other.place()));
        }
        lanes.in[lane] = other.in, lanes.out[lane] = other.out;
    }
    lanes.mask = present;
    trusted = true;
    f.combine(lanes);
    trusted = false;
    lanes_waiting[first / 32] &= ~present;
    in_order(32, [&](unsigned lane) { if (present >> lane & 1) push(fibers[first + lane]); });
}

void Worker::enter_collective(const char* name, Combine combine, bool aligned, unsigned mask, const unsigned* in, int in_words,
                              unsigned* out, int out_words, const Place& place) {
    Fiber& f = *current;
    if (!(mask >> f.id % 32 & 1)) raise("wrong mask", print("lane %u calls %s with mask %08x, which omits it, at ", f.id % 32, name, mask) + text(place));
    f.name = name, f.combine = combine, f.aligned = aligned, f.mask = mask, f.site = *place.site, f.pc = place.pc;
    std::copy(in, in + in_words, f.in);
    f.state = State::in_collective;
    lanes_waiting[f.id / 32] |= 1u << f.id % 32;
    try_collective(f);
    give_way(f);
    std::copy(f.out, f.out + out_words, out);
}

void collective(const char* name, Combine combine, bool aligned, unsigned mask, const unsigned* in, int in_words, unsigned* out,
                int out_words, Site site) {
    worker->enter_collective(name, combine, aligned, mask, in, in_words, out, out_words, {&site, __builtin_return_address(0)});
}

void warp_barrier(unsigned mask, Site site) {
    // Only a barrier of the whole warp orders memory for the race check; a partial one synchronises and no more.
    auto combine = [](const Lanes& lanes) {
        Worker& w = *worker;
        unsigned warp = w.current->id / 32;
        if (lanes.mask == ~w.lanes_done[warp]) w.tick(1u << warp);
    };
    worker->enter_collective("__syncwarp", combine, false, mask, nullptr, 0, nullptr, 0, {&site, __builtin_return_address(0)});
}

static void combine_shuffle(const Lanes& lanes) {
    for (int lane = 0; lane < 32; ++lane) {
        if (!(lanes.mask >> lane & 1)) continue;
        const unsigned* in = lanes.in[lane];
        int argument = int(in[2]), width = int(in[3]), segment = lane & ~(width - 1), source = lane;
        switch (Shuffle(in[4])) {
            case Shuffle::index: source = segment + (argument & (width - 1)); break;
            case Shuffle::up: source = lane - argument < segment ? lane : lane - argument; break;
            case Shuffle::down: source = lane + argument >= segment + width ? lane : lane + argument; break;
            case Shuffle::exclusive_or: source = (lane ^ argument) >= segment + width ? lane : lane ^ argument; break;
        }
        if (source < 0 || source > 31 || !(lanes.mask >> source & 1))
            raise("inactive source lane", print("lane %d shuffles from lane %d, which takes no part (mask %08x), at ", lane, source, lanes.mask) +
                                              text(worker->fibers[worker->current->id / 32 * 32 + lane].place()));
        std::copy(lanes.in[source], lanes.in[source] + 2, lanes.out[lane]);
    }
}

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t bits, int argument, int width, Site site) {
    static const char* const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
    Place place{&site, __builtin_return_address(0)};
    if (width < 1 || width > 32 || (width & (width - 1))) raise("bad width", print("%s of width %d at ", names[int(kind)], width) + text(place));
    unsigned in[5] = {unsigned(bits), unsigned(bits >> 32), unsigned(argument), unsigned(width), unsigned(kind)}, out[2];
    worker->enter_collective(names[int(kind)], combine_shuffle, false, mask, in, 5, out, 2, place);
    return uint64_t(out[1]) << 32 | out[0];
}

static void combine_reduce(const Lanes& lanes) {
    unsigned result = 0;
    bool first = true;
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(lanes.mask >> lane & 1)) continue;
        unsigned v = lanes.in[lane][0];
        Reduce kind = Reduce(lanes.in[lane][1]);
        if (kind == Reduce::ballot) v <<= lane;
        if (first) result = v;
        else switch (kind) {
            case Reduce::ballot: case Reduce::any: case Reduce::bit_or: result |= v; break;
            case Reduce::all: case Reduce::bit_and: result &= v; break;
            case Reduce::bit_xor: result ^= v; break;
            case Reduce::add: result += v; break;
            case Reduce::min_signed: result = unsigned(std::min(int(result), int(v))); break;
            case Reduce::max_signed: result = unsigned(std::max(int(result), int(v))); break;
            case Reduce::min_unsigned: result = std::min(result, v); break;
            case Reduce::max_unsigned: result = std::max(result, v); break;
        }
        first = false;
    }
    for (unsigned lane = 0; lane < 32; ++lane)
        if (lanes.mask >> lane & 1) *lanes.out[lane] = result;
}

unsigned reduce(Reduce kind, unsigned mask, unsigned value, Site site) {
    static const char* const names[] = {"__ballot_sync", "__any_sync", "__all_sync", "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync",
                                        "__reduce_min_sync", "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync", "__reduce_xor_sync"};
    unsigned in[2] = {value, unsigned(kind)}, out;
    worker->enter_collective(names[int(kind)], combine_reduce, false, mask, in, 2, &out, 1, {&site, __builtin_return_address(0)});
    return out;
}
}  // namespace emulation
