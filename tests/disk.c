/* What a process asks of its disk, written down call by call; and a disk that fails, or kills, when a test says so.
 *
 * Preloaded (LD_PRELOAD) into the process under test; tests/disk.py compiles it and reads what it wrote.
 *
 *   DISK_ROOT   the folder that is watched: an absolute path without links
 *   DISK_LOG    gets one entry for each call that changed something below DISK_ROOT, in the order of their effect
 *   DISK_FAULT  where a test puts the next fault: "CALL SUFFIX NUMBER ACTION". The NUMBERth CALL (sync, write, read) on a
 *               file whose path ends in SUFFIX fails with errno ACTION, or kills the process: `before` it does anything,
 *               or `after`. The file is removed then. NUMBER 0 is each of them, for as long as the file stands.
 *
 * Not watched: mapped memory, since SQLite maps only the WAL's index, which no power loss needs to spare; and room that
 * is reserved, since it holds nothing yet.
 */
#define _GNU_SOURCE
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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 65536

enum { CREATED = 'c', WRITTEN = 'w', TRUNCATED = 't', SYNCED = 's', NOT_SYNCED = 'n', FOLDER_SYNCED = 'f',
       UNLINKED = 'u', RENAMED = 'r', FOLDER_MADE = 'm' };

struct entry {
    uint32_t what;
    uint32_t length; /* of what follows: a path, two with a NUL between, or the bytes written */
    uint64_t file;   /* inode */
    uint64_t offset; /* of the bytes written; the size, where truncated */
};

struct watched {
    uint64_t file; /* inode; 0 for what isn't watched */
    int folder;
    char *path;
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static struct watched watched[FILES];
static const char *root, *fault;
static size_t root_length;
static int log_file = -1;
static int counted; /* calls that the present fault could have hit */

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("DISK_LOG");
    root = getenv("DISK_ROOT");
    fault = getenv("DISK_FAULT");
    if (!root || !log || !fault) {
        fprintf(stderr, "disk: DISK_ROOT, DISK_LOG and DISK_FAULT are to be set\n");
        abort();
    }
    root_length = strlen(root);
    log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0) {
        perror("disk: DISK_LOG");
        abort();
    }
}

/* Calls are made and written down one at a time, also where several processes are watched. */
static void enter(void) {
    pthread_mutex_lock(&one_at_a_time);
    flock(log_file, LOCK_EX);
}

static void leave(void) {
    int error = errno;
    flock(log_file, LOCK_UN);
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
}

static void note(int what, uint64_t file, uint64_t offset, const void *bytes, size_t length) {
    int error = errno;
    struct entry entry = {what, length, file, offset};
    struct iovec pieces[2] = {{&entry, sizeof entry}, {(void *)bytes, length}};
    if (syscall(SYS_writev, log_file, pieces, 2) != (long)(sizeof entry + length)) {
        perror("disk: DISK_LOG");
        abort();
    }
    errno = error;
}

static int below_root(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static struct watched *of(int descriptor) {
    static struct watched nothing;
    return descriptor >= 0 && descriptor < FILES && watched[descriptor].file ? &watched[descriptor] : &nothing;
}

static void not_modelled(const char *call) {
    fprintf(stderr, "disk: %s below DISK_ROOT is not modelled\n", call);
    abort();
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    pause();
}

enum { AS_EVER, FAILS, DIES_AFTER };

/* Whether this call is the one that the test wants to fail; errno is set where it FAILS. */
static int fate(const char *call, const struct watched *on) {
    char text[PATH_MAX + 64], named[16], suffix[PATH_MAX], action[16];
    int number, error = errno, file = syscall(SYS_openat, AT_FDCWD, fault, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        counted = 0;
        errno = error;
        return AS_EVER;
    }
    long length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    errno = error;
    text[length < 0 ? 0 : length] = 0;
    if (sscanf(text, "%15s %4095s %d %15s", named, suffix, &number, action) != 4 || strcmp(named, call))
        return AS_EVER;
    size_t tail = strlen(suffix), whole = strlen(on->path);
    if (tail > whole || strcmp(on->path + whole - tail, suffix) || (number && ++counted != number))
        return AS_EVER;
    if (number)
        syscall(SYS_unlinkat, AT_FDCWD, fault, 0);
    if (!strcmp(action, "before"))
        die();
    if (!strcmp(action, "after"))
        return DIES_AFTER;
    errno = atoi(action);
    return FAILS;
}

static void watch(int descriptor, const char *path, int is_new, int flags) {
    struct stat found;
    if (descriptor >= FILES)
        not_modelled("so many descriptors");
    if (fstat(descriptor, &found) || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)))
        return;
    watched[descriptor] = (struct watched){found.st_ino, S_ISDIR(found.st_mode), strdup(path)};
    if (is_new)
        note(CREATED, found.st_ino, 0, path, strlen(path));
    else if (flags & O_TRUNC)
        note(TRUNCATED, found.st_ino, 0, 0, 0);
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    struct stat before;
    if (path[0] != '/' || !below_root(path) || (flags & O_TMPFILE) == O_TMPFILE)
        return syscall(SYS_openat, folder, path, flags, mode);
    enter();
    int is_new = (flags & O_CREAT) && stat(path, &before);
    int descriptor = syscall(SYS_openat, folder, path, flags, mode);
    if (descriptor >= 0)
        watch(descriptor, path, is_new, flags);
    leave();
    return descriptor;
}

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

#define OPENS(result, last_named) \
    va_list rest; \
    va_start(rest, last_named); \
    int descriptor = result; \
    va_end(rest); \
    return descriptor

int open(const char *path, int flags, ...) { OPENS(opened(AT_FDCWD, path, flags, mode_of(flags, rest)), flags); }
int open64(const char *path, int flags, ...) { OPENS(opened(AT_FDCWD, path, flags, mode_of(flags, rest)), flags); }
int openat(int folder, const char *path, int flags, ...) { OPENS(opened(folder, path, flags, mode_of(flags, rest)), flags); }
int openat64(int folder, const char *path, int flags, ...) { OPENS(opened(folder, path, flags, mode_of(flags, rest)), flags); }

int close(int descriptor) {
    struct watched *on = of(descriptor);
    if (!on->file)
        return syscall(SYS_close, descriptor);
    enter();
    free(on->path);
    *on = (struct watched){0};
    int result = syscall(SYS_close, descriptor);
    leave();
    return result;
}

static ssize_t written(int descriptor, const void *bytes, size_t count, off_t offset, int at_offset) {
    struct watched *on = of(descriptor);
    if (!on->file)
        return at_offset ? syscall(SYS_pwrite64, descriptor, bytes, count, offset)
                         : syscall(SYS_write, descriptor, bytes, count);
    enter();
    int fated = fate("write", on);
    ssize_t result = -1;
    if (fated != FAILS) {
        result = at_offset ? syscall(SYS_pwrite64, descriptor, bytes, count, offset)
                           : syscall(SYS_write, descriptor, bytes, count);
        if (result > 0)
            note(WRITTEN, on->file, at_offset ? offset : lseek(descriptor, 0, SEEK_CUR) - result, bytes, result);
    }
    if (fated == DIES_AFTER)
        die();
    leave();
    return result;
}

ssize_t write(int descriptor, const void *bytes, size_t count) { return written(descriptor, bytes, count, 0, 0); }
ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t at) { return written(descriptor, bytes, count, at, 1); }
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t at) { return written(descriptor, bytes, count, at, 1); }

static ssize_t taken(int descriptor, void *bytes, size_t count, off_t offset, int at_offset) {
    struct watched *on = of(descriptor);
    if (on->file) {
        enter();
        int fated = fate("read", on);
        leave();
        if (fated == FAILS)
            return -1;
    }
    return at_offset ? syscall(SYS_pread64, descriptor, bytes, count, offset) : syscall(SYS_read, descriptor, bytes, count);
}

ssize_t read(int descriptor, void *bytes, size_t count) { return taken(descriptor, bytes, count, 0, 0); }
ssize_t pread(int descriptor, void *bytes, size_t count, off_t at) { return taken(descriptor, bytes, count, at, 1); }
ssize_t pread64(int descriptor, void *bytes, size_t count, off64_t at) { return taken(descriptor, bytes, count, at, 1); }

static int synced(int descriptor, long call) {
    struct watched *on = of(descriptor);
    if (!on->file)
        return syscall(call, descriptor);
    enter();
    int fated = fate("sync", on), result = fated == FAILS ? -1 : (int)syscall(call, descriptor);
    if (on->folder && !result)
        note(FOLDER_SYNCED, on->file, 0, on->path, strlen(on->path));
    else if (!on->folder)
        note(result ? NOT_SYNCED : SYNCED, on->file, 0, 0, 0);
    if (fated == DIES_AFTER)
        die();
    leave();
    return result;
}

int fsync(int descriptor) { return synced(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return synced(descriptor, SYS_fdatasync); }

static int truncated(int descriptor, off_t size) {
    struct watched *on = of(descriptor);
    if (!on->file)
        return syscall(SYS_ftruncate, descriptor, size);
    enter();
    int result = syscall(SYS_ftruncate, descriptor, size);
    if (!result)
        note(TRUNCATED, on->file, size, 0, 0);
    leave();
    return result;
}

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return truncated(descriptor, size); }

static int unlinked(int folder, const char *path, int flags) {
    if (path[0] != '/' || !below_root(path))
        return syscall(SYS_unlinkat, folder, path, flags);
    enter();
    int result = syscall(SYS_unlinkat, folder, path, flags);
    if (!result)
        note(UNLINKED, 0, 0, path, strlen(path));
    leave();
    return result;
}

int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return unlinked(folder, path, flags); }

static int folder_made(int folder, const char *path, mode_t mode) {
    if (path[0] != '/' || !below_root(path))
        return syscall(SYS_mkdirat, folder, path, mode);
    enter();
    int result = syscall(SYS_mkdirat, folder, path, mode);
    if (!result)
        note(FOLDER_MADE, 0, 0, path, strlen(path));
    leave();
    return result;
}

int mkdir(const char *path, mode_t mode) { return folder_made(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return folder_made(folder, path, mode); }

int rename(const char *from, const char *to) {
    char paths[2 * PATH_MAX];
    if (!below_root(from) && !below_root(to))
        return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!below_root(from) || !below_root(to))
        not_modelled("rename across DISK_ROOT, or");
    enter();
    int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!result)
        note(RENAMED, 0, 0, paths, snprintf(paths, sizeof paths, "%s%c%s", from, 0, to));
    leave();
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    if (below_root(from) || below_root(to))
        not_modelled("renameat");
    return syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
}

ssize_t writev(int descriptor, const struct iovec *pieces, int count) {
    if (of(descriptor)->file)
        not_modelled("writev");
    return syscall(SYS_writev, descriptor, pieces, count);
}
