/* Stands between a program and the C library: logs, stops or fails every call that changes files under one folder.
 *
 * Preloaded (LD_PRELOAD) into the process that the crash tests run in; idle until `recorder_arm`. Every write, size
 * change, sync, creation, rename and removal below the folder is one boundary, numbered from 1 in the order in which
 * they happen, whatever thread or library (SQLite included) makes them. tests/benchmarks/recording.py reads the log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#undef open64
#undef openat64
#undef creat64
#undef pwrite64
#undef pwritev64
#undef truncate64
#undef ftruncate64

enum { LOG = 0, KILL = 1, TEAR = 2, FAIL_ONCE = 3, FULL = 4, READ_ONLY = 5 };
enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, OPEN, MARK };

struct record {
    uint8_t kind;
    uint8_t unused[7];
    uint64_t inode;
    int64_t offset;
    int64_t length;
    uint32_t path_length;
    uint32_t second_length;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static volatile int armed;
static long count, at;
static int mode, error_number;
static pid_t owner;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int recorder_arm(const char *folder, const char *log_path, long stop_at, int how, int error) {
    if (!realpath(folder, root)) return -1;
    root_length = strlen(root);
    log_fd = log_path ? (int)syscall(SYS_openat, AT_FDCWD, log_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600) : -1;
    count = 0, at = stop_at, mode = how, error_number = error, owner = getpid();
    armed = 1;
    return 0;
}

long recorder_disarm(void) {
    armed = 0;
    if (log_fd >= 0) syscall(SYS_close, log_fd);
    log_fd = -1;
    return count;
}

static int watching(void) { return armed && getpid() == owner; }

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of the entry itself: its folder resolved, its last part as it is. */
static int absolute(int dirfd, const char *path, char *out) {
    char whole[2 * PATH_MAX], folder[PATH_MAX];
    if (path[0] == '/') {
        if (strlen(path) >= PATH_MAX) return 0;
        strcpy(whole, path);
    } else {
        char base[PATH_MAX];
        if (dirfd == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
            ssize_t got = readlink(link, base, sizeof base - 1);
            if (got < 0) return 0;
            base[got] = 0;
        }
        if (strlen(path) >= PATH_MAX) return 0;
        snprintf(whole, sizeof whole, "%s/%s", base, path);
    }
    size_t end = strlen(whole);
    while (end > 1 && whole[end - 1] == '/') whole[--end] = 0;
    char *slash = strrchr(whole, '/');
    if (!slash || slash == whole) return 0;
    *slash = 0;
    if (!realpath(whole, folder)) return 0;
    if (strlen(folder) + strlen(slash + 1) + 2 > PATH_MAX) return 0;
    sprintf(out, "%s/%s", folder, slash + 1);
    return below(out);
}

static int held(int fd, char *out, struct stat *status) {
    char link[64];
    if (fstat(fd, status) || !(S_ISREG(status->st_mode) || S_ISDIR(status->st_mode))) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, out, PATH_MAX - 1);
    if (got < 0) return 0;
    out[got] = 0;
    return below(out);
}

static void put(const void *bytes, size_t size) {
    const char *from = bytes;
    while (log_fd >= 0 && size) {
        ssize_t done = syscall(SYS_write, log_fd, from, size);
        if (done <= 0) return;
        from += done, size -= (size_t)done;
    }
}

static void note(int kind, uint64_t inode, int64_t offset, int64_t length, const char *path, const char *second,
                 const void *data) {
    struct record made = {.kind = (uint8_t)kind, .inode = inode, .offset = offset, .length = length};
    made.path_length = path ? (uint32_t)strlen(path) : 0;
    made.second_length = second ? (uint32_t)strlen(second) : 0;
    put(&made, sizeof made);
    if (path) put(path, made.path_length);
    if (second) put(second, made.second_length);
    if (data) put(data, (size_t)length);
}

void recorder_mark(int64_t value) {
    if (!watching()) return;
    pthread_mutex_lock(&guard);
    note(MARK, 0, value, 0, NULL, NULL, NULL);
    pthread_mutex_unlock(&guard);
}

/* The clock: what the program is told is off by this much; files' times of change are the kernel's. */
static volatile int64_t ahead;

void recorder_clock(int64_t seconds) { ahead = seconds; }

int clock_gettime(clockid_t clock, struct timespec *out) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, out);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += ahead;
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int result = real(out, zone);
    if (!result) out->tv_sec += ahead;
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts a boundary. Returns 0: go on; 1: fail with errno set; 2: do half of it, then die or fail the rest. */
static int boundary(int kind) {
    count++;
    int grows = kind == CREATE || kind == WRITE || kind == MKDIR || kind == LINK || kind == TRUNCATE;
    switch (mode) {
        case KILL: if (count == at) die(); break;
        case TEAR: if (count == at) { if (kind == WRITE) return 2; die(); } break;
        case FAIL_ONCE: if (count == at) { errno = error_number; return 1; } break;
        case FULL:
            if (count == at && kind == WRITE) return 2;
            if (count >= at && grows) { errno = error_number; return 1; }
            break;
        case READ_ONLY: if (kind != SYNC) { errno = error_number; return 1; } break;
        default: break;
    }
    return 0;
}

static int opened(const char *name, int dirfd, const char *path, int flags, mode_t permissions) {
    REAL(int, "openat", int, const char *, int, ...);
    char full[PATH_MAX];
    (void)name;
    if (!watching() || !(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) || (flags & __O_TMPFILE) == __O_TMPFILE
        || !absolute(dirfd, path, full))
        return real(dirfd, path, flags, permissions);
    pthread_mutex_lock(&guard);
    struct stat before, after;
    int there = lstat(full, &before) == 0;
    int kind = !there && (flags & O_CREAT) ? CREATE : there && (flags & O_TRUNC) ? TRUNCATE : OPEN;
    int fd = -1;
    if (kind == OPEN && mode != READ_ONLY && mode != FAIL_ONCE) {
        fd = real(dirfd, path, flags, permissions);
    } else if (!boundary(kind == TRUNCATE && mode == FULL ? OPEN : kind)) {
        fd = real(dirfd, path, flags, permissions);
        if (fd >= 0 && !fstat(fd, &after)) {
            if (kind == CREATE) note(CREATE, after.st_ino, 0, 0, full, NULL, NULL);
            else if (kind == TRUNCATE) note(TRUNCATE, after.st_ino, 0, 0, full, NULL, NULL);
            else note(OPEN, after.st_ino, 0, 0, full, NULL, NULL);
        }
    }
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return fd;
}

#define PERMISSIONS(last) \
    mode_t permissions = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, last); permissions = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { PERMISSIONS(flags) return opened("open", AT_FDCWD, path, flags, permissions); }
int open64(const char *path, int flags, ...) { PERMISSIONS(flags) return opened("open64", AT_FDCWD, path, flags, permissions); }
int openat(int dirfd, const char *path, int flags, ...) { PERMISSIONS(flags) return opened("openat", dirfd, path, flags, permissions); }
int openat64(int dirfd, const char *path, int flags, ...) { PERMISSIONS(flags) return opened("openat64", dirfd, path, flags, permissions); }
int creat(const char *path, mode_t permissions) { return opened("creat", AT_FDCWD, path, O_CREAT | O_TRUNC | O_WRONLY, permissions); }
int creat64(const char *path, mode_t permissions) { return opened("creat64", AT_FDCWD, path, O_CREAT | O_TRUNC | O_WRONLY, permissions); }

static ssize_t written(int fd, const void *data, size_t size, int64_t offset, int positioned) {
    char full[PATH_MAX];
    struct stat status;
    if (!watching() || !held(fd, full, &status) || !S_ISREG(status.st_mode))
        return positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&guard);
    int64_t place = offset;
    if (!positioned) place = fcntl(fd, F_GETFL) & O_APPEND ? (int64_t)status.st_size : (int64_t)lseek(fd, 0, SEEK_CUR);
    int what = boundary(WRITE);
    ssize_t done = -1;
    if (what != 1) {
        size_t now = what == 2 ? size / 2 : size;
        done = positioned ? syscall(SYS_pwrite64, fd, data, now, offset) : syscall(SYS_write, fd, data, now);
        if (done > 0) note(WRITE, status.st_ino, place, done, full, NULL, data);
        if (what == 2 && mode == TEAR) die();
        if (what == 2 && done <= 0) { done = -1; errno = error_number; }
    }
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return written(fd, data, size, offset, 1); }

static ssize_t gathered(int fd, const struct iovec *parts, int number, int64_t offset, int positioned) {
    ssize_t all = 0;
    for (int n = 0; n < number; n++) {
        ssize_t done = written(fd, parts[n].iov_base, parts[n].iov_len, offset + all, positioned);
        if (done < 0) return all ? all : -1;
        all += done;
        if ((size_t)done < parts[n].iov_len) break;
    }
    return all;
}

ssize_t writev(int fd, const struct iovec *parts, int number) { return gathered(fd, parts, number, 0, 0); }
ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t offset) { return gathered(fd, parts, number, offset, 1); }
ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t offset) { return gathered(fd, parts, number, offset, 1); }

/* numpy writes arrays through stdio, whose own calls do not come by here. */
size_t fwrite(const void *data, size_t size, size_t number, FILE *stream) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    char full[PATH_MAX];
    struct stat status;
    int fd = watching() ? fileno(stream) : -1;
    if (fd < 0 || !held(fd, full, &status) || !S_ISREG(status.st_mode)) return real(data, size, number, stream);
    fflush(stream);
    const char *from = data;
    size_t left = size * number;
    while (left) {
        ssize_t done = written(fd, from, left, 0, 0);
        if (done <= 0) break;
        from += done, left -= (size_t)done;
    }
    fseeko(stream, lseek(fd, 0, SEEK_CUR), SEEK_SET); /* the stream does not know of these writes */
    return size ? (size * number - left) / size : 0;
}

static int resized(const char *name, int fd, int64_t length) {
    REAL(int, "ftruncate", int, off_t);
    char full[PATH_MAX];
    struct stat status;
    (void)name;
    if (!watching() || !held(fd, full, &status)) return real(fd, length);
    pthread_mutex_lock(&guard);
    int result = boundary(length > status.st_size ? TRUNCATE : OPEN) ? -1 : real(fd, length);
    if (!result) note(TRUNCATE, status.st_ino, 0, length, full, NULL, NULL);
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return result;
}

int ftruncate(int fd, off_t length) { return resized("ftruncate", fd, length); }
int ftruncate64(int fd, off64_t length) { return resized("ftruncate64", fd, length); }

static int synced(int number, int fd) {
    char full[PATH_MAX];
    struct stat status;
    if (!watching() || !held(fd, full, &status)) return (int)syscall(number, fd);
    pthread_mutex_lock(&guard);
    int result = boundary(SYNC) ? -1 : (int)syscall(number, fd);
    if (!result) note(SYNC, status.st_ino, 0, S_ISDIR(status.st_mode), full, NULL, NULL);
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return result;
}

int fsync(int fd) { return synced(SYS_fsync, fd); }
int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }

static int moved(int kind, int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    char first[PATH_MAX], second[PATH_MAX];
    struct stat status = {0};
    int known = watching() && absolute(from_fd, from, first) && absolute(to_fd, to, second);
    if (!known)
        return kind == LINK ? (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags)
                            : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
    pthread_mutex_lock(&guard);
    lstat(first, &status);
    int result = boundary(kind) ? -1
                 : kind == LINK ? (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags)
                                : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
    if (!result) note(kind, status.st_ino, 0, 0, first, second, NULL);
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return result;
}

int rename(const char *from, const char *to) { return moved(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return moved(RENAME, a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned f) { return moved(RENAME, a, from, b, to, f); }
int link(const char *from, const char *to) { return moved(LINK, AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int f) { return moved(LINK, a, from, b, to, (unsigned)f); }

static int entry(int kind, int dirfd, const char *path, int argument) {
    char full[PATH_MAX];
    struct stat status = {0};
    int known = watching() && absolute(dirfd, path, full);
    if (known) pthread_mutex_lock(&guard);
    if (known && kind != MKDIR) lstat(full, &status);
    int there = known && lstat(full, &status) == 0;
    /* What fails anyway (no such file, there already) changes nothing and is no boundary. */
    int changes = known && (kind == MKDIR ? !there : there);
    int result = changes && boundary(kind) ? -1
                 : kind == MKDIR ? (int)syscall(SYS_mkdirat, dirfd, path, argument)
                                 : (int)syscall(SYS_unlinkat, dirfd, path, argument);
    int kept = errno;
    if (known && !result) {
        if (kind == MKDIR) lstat(full, &status);
        note(kind, status.st_ino, 0, 0, full, NULL, NULL);
    }
    if (known) pthread_mutex_unlock(&guard);
    errno = kept;
    return result;
}

int unlink(const char *path) { return entry(UNLINK, AT_FDCWD, path, 0); }
int remove(const char *path) {
    int result = entry(UNLINK, AT_FDCWD, path, 0);
    return result && errno == EISDIR ? entry(RMDIR, AT_FDCWD, path, AT_REMOVEDIR) : result;
}
int unlinkat(int dirfd, const char *path, int flags) { return entry(flags & AT_REMOVEDIR ? RMDIR : UNLINK, dirfd, path, flags); }
int rmdir(const char *path) { return entry(RMDIR, AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char *path, mode_t permissions) { return entry(MKDIR, AT_FDCWD, path, (int)permissions); }
int mkdirat(int dirfd, const char *path, mode_t permissions) { return entry(MKDIR, dirfd, path, (int)permissions); }
