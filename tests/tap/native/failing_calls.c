/* Makes system calls fail that concern the tap directory, a file opened there, or the process's own
 * and the kernel's part of /proc; the simulated driver reads the parts of other processes.
 * Preloaded; `fail_calls` says from which call on and how many, `calls_made` how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static _Atomic long count, first = -1, many;
static int error_number;
static _Atomic char ours[4096];

void fail_calls(long from, long how_many, int error) {
    many = how_many;
    error_number = error;
    count = 0;
    first = from;
}
long calls_made(void) { return count; }

static int fails(void) {
    if (first < 0) return 0;
    long number = count++;
    return number >= first && number - first < many;
}
static int is_path(const char *path) {
    const char *folder = getenv("GPUWARD_TAP_DIR");
    return path && ((folder && !strncmp(path, folder, strlen(folder))) ||
                    !strncmp(path, "/proc/s", 7));
}
static int is_ours(int fd) { return fd >= 0 && fd < 4096 && ours[fd]; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_PATH(type, name, path, parameters, arguments)              \
    type name parameters {                                            \
        if (is_path(path) && fails()) return errno = error_number, -1; \
        return REAL(name) arguments;                                  \
    }
#define ON_FD(type, name, parameters, arguments)                      \
    type name parameters {                                            \
        if (is_ours(fd) && fails()) return errno = error_number, -1;  \
        return REAL(name) arguments;                                  \
    }
#define OPEN(name)                                                    \
    int name(const char *path, int flags, ...) {                      \
        va_list rest;                                                 \
        va_start(rest, flags);                                        \
        mode_t mode = va_arg(rest, mode_t);                           \
        va_end(rest);                                                 \
        if (is_path(path) && fails()) return errno = error_number, -1; \
        int fd = REAL(name)(path, flags, mode);                       \
        if (fd >= 0 && fd < 4096) ours[fd] = is_path(path);           \
        return fd;                                                    \
    }
#define FALLOCATE(name)                                               \
    int name(int fd, off_t offset, off_t size) {                      \
        if (is_ours(fd) && fails()) return error_number;              \
        return REAL(name)(fd, offset, size);                          \
    }
#define FCNTL(name)                                                   \
    int name(int fd, int command, ...) {                              \
        va_list rest;                                                 \
        va_start(rest, command);                                      \
        void *argument = va_arg(rest, void *);                        \
        va_end(rest);                                                 \
        if (is_ours(fd) && fails()) return errno = error_number, -1;  \
        return REAL(name)(fd, command, argument);                     \
    }

OPEN(open)
OPEN(open64)
FALLOCATE(posix_fallocate)
FALLOCATE(posix_fallocate64)
FCNTL(fcntl)
FCNTL(fcntl64)
ON_PATH(int, access, path, (const char *path, int mode), (path, mode))
ON_PATH(int, faccessat, path, (int fd, const char *path, int mode, int flags),
        (fd, path, mode, flags))
ON_PATH(int, unlink, path, (const char *path), (path))
ON_PATH(int, rename, from, (const char *from, const char *to), (from, to))
ON_PATH(int, stat, path, (const char *path, struct stat *facts), (path, facts))
ON_PATH(int, stat64, path, (const char *path, struct stat64 *facts), (path, facts))
ON_PATH(int, fstatat64, path, (int fd, const char *path, struct stat64 *facts, int flags),
        (fd, path, facts, flags))
ON_FD(int, fstat, (int fd, struct stat *facts), (fd, facts))
ON_FD(int, fstat64, (int fd, struct stat64 *facts), (fd, facts))
ON_FD(int, fchmod, (int fd, mode_t mode), (fd, mode))
ON_FD(ssize_t, read, (int fd, void *into, size_t size), (fd, into, size))
ON_FD(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
ON_FD(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))

/* Linux closes the descriptor also when it says that it failed. */
int close(int fd) {
    int failed = is_ours(fd) && fails();
    if (fd >= 0 && fd < 4096) ours[fd] = 0;
    int status = REAL(close)(fd);
    return failed ? (errno = error_number, -1) : status;
}
