/* Preloaded into an edge: file calls below $FAILING_DIRECTORY fail while the file $FAILING_SWITCH exists.
   "EIO": whatever opens, reads or writes. "EROFS": whatever would change something. "ENOSPC": whatever would add. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READS, CHANGES };

static int failing(int does) {
    char said[16] = "";
    int fd = syscall(SYS_openat, AT_FDCWD, getenv("FAILING_SWITCH"), O_RDONLY);
    if (fd < 0) return 0;
    syscall(SYS_read, fd, said, sizeof said - 1);
    syscall(SYS_close, fd);
    if (!strncmp(said, "EIO", 3)) return EIO;
    if (does == READS) return 0;
    return !strncmp(said, "EROFS", 5) ? EROFS : ENOSPC;
}

static int below(const char *path) {
    const char *directory = getenv("FAILING_DIRECTORY");
    return directory && path && !strncmp(path, directory, strlen(directory));
}

static int of_path(const char *path, int does) { return below(path) ? failing(does) : 0; }

static int of_file(int fd, int does) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return of_path(path, does);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF(test) do { int why = (test); if (why) { errno = why; return -1; } } while (0)
#define CHANGING (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)

int open64(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more);
    FAIL_IF(of_path(path, flags & CHANGING ? CHANGES : READS));
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int open(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more);
    FAIL_IF(of_path(path, flags & CHANGING ? CHANGES : READS));
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
ssize_t write(int fd, const void *data, size_t size) {
    FAIL_IF(of_file(fd, CHANGES)); return syscall(SYS_write, fd, data, size);
}
ssize_t read(int fd, void *data, size_t size) {
    FAIL_IF(of_file(fd, READS)); return syscall(SYS_read, fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    FAIL_IF(of_file(fd, CHANGES)); return syscall(SYS_pwrite64, fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    FAIL_IF(of_file(fd, READS)); return syscall(SYS_pread64, fd, data, size, at);
}
ssize_t pread(int fd, void *data, size_t size, off_t at) { return pread64(fd, data, size, at); }
ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    FAIL_IF(of_file(fd, READS)); return REAL(preadv64v2)(fd, parts, count, at, flags);
}
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    return preadv64v2(fd, parts, count, at, flags);
}
int unlink(const char *path) { FAIL_IF(of_path(path, CHANGES)); return syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
int mkdir(const char *path, mode_t mode) {
    FAIL_IF(of_path(path, CHANGES)); return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
