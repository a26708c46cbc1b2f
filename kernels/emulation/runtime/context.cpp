// context.cpp - the switch itself, per architecture.
#include "context.h"
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__ELF__)
constexpr size_t frame_words = 8, entry_word = 6;  // r15 r14 r13 r12 rbx rbp, entry, a null return address
asm(R"(
    .text
    .globl chtsl_emulation_swap
    .hidden chtsl_emulation_swap
    .type chtsl_emulation_swap, @function
chtsl_emulation_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size chtsl_emulation_swap, .-chtsl_emulation_swap
)");
#elif defined(__aarch64__) && defined(__ELF__)
constexpr size_t frame_words = 20, entry_word = 11;  // x19-x30, d8-d15; the entry sits in the link register x30
asm(R"(
    .text
    .globl chtsl_emulation_swap
    .hidden chtsl_emulation_swap
    .type chtsl_emulation_swap, %function
chtsl_emulation_swap:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size chtsl_emulation_swap, .-chtsl_emulation_swap
)");
#else
#error "kernels run emulated on Linux, x86-64 or aarch64: add a context switch for this platform"
#endif

namespace emulation {
void prepare(Context& c, char* bottom, size_t bytes, void (*entry)()) {
    void** frame = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(bottom) + bytes) & ~uintptr_t(15)) - frame_words;
    std::memset(frame, 0, frame_words * sizeof(void*));
    frame[entry_word] = reinterpret_cast<void*>(entry);
    c.stack_pointer = frame;
}
}  // namespace emulation
