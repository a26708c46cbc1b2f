// file_faults.c - lets one file operation of a program fail, from outside: preloaded before the C library.
//
//   FAULT_DIR     only operations on files under this folder count
//   FAULT_AT      which one fails, counted from 1; 0 = none
//   FAULT_ACTION  kill: the process ends before it, as by kill -9
//                 torn: a write puts half of its bytes down and the process ends; other operations as kill
//                 eintr: fails with EINTR; FAULT_AT counts writes only
//                 short: from there on no write takes more than 1 to 7 bytes; FAULT_AT counts writes only
//                 a number: it fails with that errno; "always-" before it: so do all that follow
//   FAULT_COUNT   file that receives the numbers of operations and of writes among them when the program ends
//   FAULT_CLOCK   seconds by which the time of day jumps, forth and back at every look
//
// Not seen: renames by raw system calls, which the safetensors crate makes inside a staging folder.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long count, writes;
static _Atomic unsigned char watched[4096];  // file descriptors

#define REAL(name) ((__typeof__(&name))real(#name))
static void* real(const char* name) { return dlsym(RTLD_NEXT, name); }

static int under(int folder, const char* path) {
    const char* dir = getenv("FAULT_DIR");
    if (!dir || !path) return 0;
    char whole[2 * PATH_MAX];
    if (path[0] != '/' && folder != AT_FDCWD) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, whole, PATH_MAX);
        if (n < 0) return 0;
        snprintf(whole + n, sizeof whole - (size_t)n, "/%s", path);
        path = whole;
    }
    return strncmp(path, dir, strlen(dir)) == 0;
}

enum { PASS, FAIL, TORN, INTERRUPTED, SHORT };

// Counts an operation and says what becomes of it.
static int fate(int writing) {
    long n = atomic_fetch_add(&count, 1) + 1, w = writing ? atomic_fetch_add(&writes, 1) + 1 : 0;
    const char *at = getenv("FAULT_AT"), *action = getenv("FAULT_ACTION");
    long point = at ? atol(at) : 0;
    if (!action || point == 0) return PASS;
    if (strcmp(action, "short") == 0) return w >= point ? SHORT : PASS;
    if (strcmp(action, "eintr") == 0) return w == point ? INTERRUPTED : PASS;
    int always = strncmp(action, "always-", 7) == 0;
    if (always) action += 7;
    if (always ? n < point : n != point) return PASS;
    if (strcmp(action, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(action, "torn") == 0) return TORN;
    errno = atoi(action);
    return FAIL;
}

static int end_or_pass(int f) {
    if (f == TORN) kill(getpid(), SIGKILL);
    return f == FAIL;
}

static void watch(int fd, int on) {
    if (fd >= 0 && fd < 4096) watched[fd] = (unsigned char)on;
}
static int is_watched(int fd) { return fd >= 0 && fd < 4096 && watched[fd]; }

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define OPEN(name)                                                     \
    int name(const char* path, int flags, ...) {                       \
        va_list list;                                                  \
        va_start(list, flags);                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                  \
        int ours = changes(flags) && under(AT_FDCWD, path);            \
        if (ours && end_or_pass(fate(0))) return -1;                    \
        int fd = REAL(name)(path, flags, mode);                        \
        watch(fd, ours);                                               \
        return fd;                                                     \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                   \
    int name(int folder, const char* path, int flags, ...) {           \
        va_list list;                                                  \
        va_start(list, flags);                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                  \
        int ours = changes(flags) && under(folder, path);              \
        if (ours && end_or_pass(fate(0))) return -1;                    \
        int fd = REAL(name)(folder, path, flags, mode);                \
        watch(fd, ours);                                               \
        return fd;                                                     \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    watch(fd, 0);
    return REAL(close)(fd);
}

ssize_t write(int fd, const void* data, size_t n) {
    if (!is_watched(fd)) return REAL(write)(fd, data, n);
    switch (fate(1)) {
        case FAIL: return -1;
        case INTERRUPTED: errno = EINTR; return -1;
        case SHORT: {
            size_t most = 1 + (size_t)atomic_load(&writes) % 7;
            return REAL(write)(fd, data, n < most ? n : most);
        }
        case TORN:
            if (REAL(write)(fd, data, n / 2) >= 0) kill(getpid(), SIGKILL);
            return -1;
        default: return REAL(write)(fd, data, n);
    }
}

ssize_t writev(int fd, const struct iovec* parts, int n) {
    if (!is_watched(fd)) return REAL(writev)(fd, parts, n);
    // As a write of the first part that has bytes: callers must take short counts.
    for (int i = 0; i < n; ++i)
        if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

// A folder is opened for reading when it is to be synced.
static int is_ours(int fd) {
    struct stat s;
    return is_watched(fd) || (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode) && under(fd, "."));
}

#define ON_FD(name)                                              \
    int name(int fd) {                                           \
        if (is_ours(fd) && end_or_pass(fate(0))) return -1;      \
        return REAL(name)(fd);                                   \
    }
ON_FD(fsync)
ON_FD(fdatasync)

int ftruncate64(int fd, off64_t n) {
    if (is_watched(fd) && end_or_pass(fate(0))) return -1;
    return REAL(ftruncate64)(fd, n);
}

#define ON_PATH(name)                                                          \
    int name(const char* path) {                                               \
        if (under(AT_FDCWD, path) && end_or_pass(fate(0))) return -1;           \
        return REAL(name)(path);                                               \
    }
ON_PATH(unlink)
ON_PATH(rmdir)

int unlinkat(int folder, const char* path, int flags) {
    if (under(folder, path) && end_or_pass(fate(0))) return -1;
    return REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char* path, mode_t mode) {
    if (under(AT_FDCWD, path) && end_or_pass(fate(0))) return -1;
    return REAL(mkdir)(path, mode);
}

int rename(const char* from, const char* to) {
    if (under(AT_FDCWD, to) && end_or_pass(fate(0))) return -1;
    return REAL(rename)(from, to);
}

__attribute__((destructor)) static void tell(void) {
    const char* path = getenv("FAULT_COUNT");
    if (!path) return;
    FILE* file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%ld %ld\n", atomic_load(&count), atomic_load(&writes));
    fclose(file);
}

int clock_gettime(clockid_t clock, struct timespec* t) {
    static atomic_long looks;
    const char* jump = getenv("FAULT_CLOCK");
    int done = REAL(clock_gettime)(clock, t);
    if (jump && clock == CLOCK_REALTIME && atomic_fetch_add(&looks, 1) % 2) t->tv_sec += atol(jump);
    return done;
}
