// memory_faults.c - lets one request for memory of a program fail, from outside: preloaded before the C library.
//
//   FAULT_MALLOC  which one fails, counted from 1; 0 = none
//   FAULT_COUNT   file that receives the number of requests when the program ends
//
// Counting begins when the program catches its first interrupt: by then it knows what to do about an abort.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

// The C library's own, which need no look-up (and a look-up needs memory).
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static atomic_int begun;
static atomic_long count;
static long point;

__attribute__((constructor)) static void begin(void) {
    const char* at = getenv("FAULT_MALLOC");
    point = at ? atol(at) : 0;
}

static int refused(void) {
    if (!atomic_load(&begun) || atomic_fetch_add(&count, 1) + 1 != point) return 0;
    errno = ENOMEM;
    return 1;
}

void* malloc(size_t n) { return refused() ? NULL : __libc_malloc(n); }
void* calloc(size_t n, size_t size) { return refused() ? NULL : __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { return refused() ? NULL : __libc_realloc(p, n); }
void* memalign(size_t to, size_t n) { return refused() ? NULL : __libc_memalign(to, n); }
void* aligned_alloc(size_t to, size_t n) { return memalign(to, n); }
int posix_memalign(void** p, size_t to, size_t n) {
    void* got = memalign(to, n);
    if (got) *p = got;
    return got ? 0 : ENOMEM;
}

int sigaction(int number, const struct sigaction* now, struct sigaction* before) {
    int (*real)(int, const struct sigaction*, struct sigaction*);
    *(void**)&real = dlsym(RTLD_NEXT, "sigaction");
    int done = real(number, now, before);
    if (number == SIGINT && now) atomic_store(&begun, 1);
    return done;
}

__attribute__((destructor)) static void tell(void) {
    const char* path = getenv("FAULT_COUNT");
    FILE* file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", atomic_load(&count));
    fclose(file);
}
