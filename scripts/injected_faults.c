/* Makes system calls of the processes of `tunectl run` and `tunectl worker` fail, for fault_injection.py, which compiles it and puts it into
 * LD_PRELOAD. TUNECTL_FAULTS names a file of the form of `struct state`, shared by all processes: it counts the calls
 * of each role below one folder, and holds the faults: the n-th call of a kind by a role gets an error, or writes half.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* In the order of ROLES and CALLS in injected.py. */
enum role { RUNNER, SERVER, WORKER, PROGRAM, OTHER, ROLES };
enum call { OPEN, WRITE, PWRITE, WRITEV, FTRUNCATE, FSYNC, RENAME, LINK, MKDIR, FORK, UNLINK, CALLS };

#define MOST_FAULTS 64
#define SHORT_WRITE (-1)
#define STOPPED (-2) /* the process stops before the call, and makes it after SIGCONT */

struct fault {
    int32_t role, call, error;
    uint32_t fired, process;
    uint64_t place; /* from 1 on */
    char where[232];
};

struct state {
    uint64_t calls[ROLES][CALLS];
    uint64_t count;
    char folder[512];
    char program[128]; /* what the command line of the study's program holds */
    struct fault faults[MOST_FAULTS];
};

static struct state *state;
static enum role role = OTHER;

/* The command line decides; what a server forks are its workers. */
static enum role role_of_command(void)
{
    static char text[16384];
    int has_run = 0, has_tunectl = 0; /* `tunectl worker` is a runner, too */
    long descriptor = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY, 0);
    long length = descriptor < 0 ? 0 : syscall(SYS_read, descriptor, text, sizeof text - 1);
    if (descriptor >= 0)
        syscall(SYS_close, descriptor);
    for (char *word = text; word < text + length; word += strlen(word) + 1) {
        if (strcmp(word, "tunectl.execution.server") == 0)
            return SERVER;
        if (strstr(word, state->program) != NULL)
            return PROGRAM;
        has_tunectl |= strcmp(word, "tunectl") == 0;
        has_run |= strcmp(word, "run") == 0 || strcmp(word, "worker") == 0;
    }
    return has_tunectl && has_run ? RUNNER : OTHER;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TUNECTL_FAULTS");
    long descriptor = path == NULL ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (descriptor < 0)
        return;
    void *memory = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, (int)descriptor, 0);
    syscall(SYS_close, descriptor);
    if (memory == MAP_FAILED)
        return;
    state = memory;
    role = role_of_command();
}

static int is_below(const char *path)
{
    size_t length = strlen(state->folder);
    return strncmp(path, state->folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* The path of a descriptor; relative paths begin at that of their folder. */
static int path_of(int descriptor, const char *name, char *found)
{
    char link[64];
    long length = 0;
    if (name != NULL && name[0] == '/') {
        snprintf(found, PATH_MAX, "%s", name);
        return 1;
    }
    if (descriptor == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = syscall(SYS_readlink, link, found, PATH_MAX - 1);
    if (length < 0)
        return 0;
    found[length] = '\0';
    if (name != NULL)
        snprintf(found + length, (size_t)(PATH_MAX - length), "/%s", name);
    return 1;
}

/* Counts a call and gives the error that it is to get: 0 for none. */
static int error_for(enum call call, int descriptor, const char *name)
{
    char path[2 * PATH_MAX] = "";
    if (state == NULL || role == OTHER)
        return 0;
    if (call != FORK) {
        int before = errno, known = path_of(descriptor, name, path);
        errno = before;
        if (!known || !is_below(path))
            return 0;
    }
    uint64_t place = __atomic_add_fetch(&state->calls[role][call], 1, __ATOMIC_RELAXED);
    for (uint64_t number = 0; number < state->count && number < MOST_FAULTS; number++) {
        struct fault *fault = &state->faults[number];
        if (fault->role == (int32_t)role && fault->call == (int32_t)call && fault->place == place) {
            snprintf(fault->where, sizeof fault->where, "%s", path);
            fault->process = (uint32_t)getpid();
            __atomic_store_n(&fault->fired, 1, __ATOMIC_RELEASE);
            if (fault->error != STOPPED)
                return fault->error;
            kill(getpid(), SIGSTOP);
            return 0;
        }
    }
    return 0;
}

static int fails(int error)
{
    if (error > 0)
        errno = error;
    return error > 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static mode_t mode_of(int flags, va_list more)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return fails(error_for(OPEN, AT_FDCWD, path)) ? -1 : NEXT(name)(path, flags, mode); \
    }

#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return fails(error_for(OPEN, folder, path)) ? -1 : NEXT(name)(folder, path, flags, mode); \
    }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t write(int descriptor, const void *content, size_t length)
{
    int error = error_for(WRITE, descriptor, NULL);
    if (fails(error))
        return -1;
    return NEXT(write)(descriptor, content, error == SHORT_WRITE && length > 1 ? length / 2 : length);
}

#define PWRITES(name, offset_type) \
    ssize_t name(int descriptor, const void *content, size_t length, offset_type offset) \
    { \
        int error = error_for(PWRITE, descriptor, NULL); \
        if (fails(error)) \
            return -1; \
        return NEXT(name)(descriptor, content, error == SHORT_WRITE && length > 1 ? length / 2 : length, offset); \
    }

PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    int error = error_for(WRITEV, descriptor, NULL);
    if (fails(error))
        return -1;
    return NEXT(writev)(descriptor, parts, error == SHORT_WRITE && count > 1 ? count / 2 : count);
}

int ftruncate(int descriptor, off_t length)
{
    return fails(error_for(FTRUNCATE, descriptor, NULL)) ? -1 : NEXT(ftruncate)(descriptor, length);
}

int ftruncate64(int descriptor, off64_t length)
{
    return fails(error_for(FTRUNCATE, descriptor, NULL)) ? -1 : NEXT(ftruncate64)(descriptor, length);
}

int fsync(int descriptor)
{
    return fails(error_for(FSYNC, descriptor, NULL)) ? -1 : NEXT(fsync)(descriptor);
}

int fdatasync(int descriptor)
{
    return fails(error_for(FSYNC, descriptor, NULL)) ? -1 : NEXT(fdatasync)(descriptor);
}

int rename(const char *from, const char *to)
{
    return fails(error_for(RENAME, AT_FDCWD, to)) ? -1 : NEXT(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return fails(error_for(RENAME, to_folder, to)) ? -1 : NEXT(renameat)(from_folder, from, to_folder, to);
}

int link(const char *from, const char *to)
{
    return fails(error_for(LINK, AT_FDCWD, to)) ? -1 : NEXT(link)(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    return fails(error_for(LINK, to_folder, to)) ? -1 : NEXT(linkat)(from_folder, from, to_folder, to, flags);
}

int mkdir(const char *path, mode_t mode)
{
    return fails(error_for(MKDIR, AT_FDCWD, path)) ? -1 : NEXT(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    return fails(error_for(MKDIR, folder, path)) ? -1 : NEXT(mkdirat)(folder, path, mode);
}

int unlink(const char *path)
{
    return fails(error_for(UNLINK, AT_FDCWD, path)) ? -1 : NEXT(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    return fails(error_for(UNLINK, folder, path)) ? -1 : NEXT(unlinkat)(folder, path, flags);
}

int rmdir(const char *path)
{
    return fails(error_for(UNLINK, AT_FDCWD, path)) ? -1 : NEXT(rmdir)(path);
}

static __thread int failed_vfork;

pid_t fork(void)
{
    if (fails(failed_vfork)) {
        failed_vfork = 0;
        return -1;
    }
    if (fails(error_for(FORK, -1, NULL)))
        return -1;
    pid_t child = NEXT(fork)();
    if (child == 0)
        role = role == SERVER ? WORKER : OTHER; /* until it calls another program */
    return child;
}

/* A wrapper cannot return twice into its caller: the child of a fork does the same, only later. Python calls fork where
 * vfork fails: on a machine without room for a process that fails, too. */
pid_t vfork(void)
{
    pid_t child = fork();
    if (child < 0)
        failed_vfork = errno;
    return child;
}
