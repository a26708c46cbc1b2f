// atomics.h - atomic operations, atomic across host threads too. A float sum depends on arrival order here as on a GPU:
// run several orders to see it.
#pragma once
#include "emulation/memory.h"

namespace emulation {
uint64_t load_word(const void* address, size_t bytes);                         // 4 or 8 bytes
bool swap_word(void* address, size_t bytes, uint64_t& seen, uint64_t wanted);  // compare and swap

// The types nvcc accepts, so that what compiles here compiles there.
template <class T, class... Allowed> constexpr bool one_of = (std::is_same_v<T, Allowed> || ...);
template <class T> constexpr bool atomic_word = one_of<T, int, unsigned, unsigned long long>;
template <class T> constexpr bool atomic_sum = atomic_word<T> || one_of<T, float, double>;
template <class T> constexpr bool atomic_order = atomic_word<T> || one_of<T, long long>;
template <class T> constexpr bool atomic_exchange = atomic_word<T> || one_of<T, float>;

template <class T, class F> T atomic_update(T* address, F change, Site site) {
    check(address, sizeof(T), Access::atomic, sizeof(T), site);
    uint64_t seen = load_word(address, sizeof(T)), wanted = 0;
    T before, after;
    do {
        __builtin_memcpy(&before, &seen, sizeof(T));
        after = change(before);
        __builtin_memcpy(&wanted, &after, sizeof(T));
    } while (!swap_word(address, sizeof(T), seen, wanted));
    return before;
}
}  // namespace emulation

#define EMULATION_ATOMIC(name, allowed, expression)                                                     \
    template <class T> T name(T* p, std::common_type_t<T> v, EMULATION_SITE) {                          \
        static_assert(emulation::allowed<T>, "no such atomic on the device");                           \
        return emulation::atomic_update(p, [v](T old) -> T { (void)old; return T(expression); }, site); \
    }
EMULATION_ATOMIC(atomicAdd, atomic_sum, old + v)
EMULATION_ATOMIC(atomicMax, atomic_order, std::max(old, v))
EMULATION_ATOMIC(atomicMin, atomic_order, std::min(old, v))
EMULATION_ATOMIC(atomicAnd, atomic_word, old & v)
EMULATION_ATOMIC(atomicOr, atomic_word, old | v)
EMULATION_ATOMIC(atomicXor, atomic_word, old ^ v)
EMULATION_ATOMIC(atomicExch, atomic_exchange, v)
template <class T> T atomicSub(T* p, std::common_type_t<T> v, EMULATION_SITE) {
    static_assert(emulation::one_of<T, int, unsigned>, "no such atomic on the device");
    return emulation::atomic_update(p, [v](T old) -> T { return old - v; }, site);
}
template <class T> T atomicCAS(T* p, std::common_type_t<T> expected, std::common_type_t<T> v, EMULATION_SITE) {
    static_assert(emulation::atomic_word<T>, "no such atomic on the device");
    return emulation::atomic_update(p, [=](T old) { return old == expected ? v : old; }, site);
}
