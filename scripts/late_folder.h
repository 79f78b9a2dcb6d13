/* What a host is shown of a folder: the part of late_folder.c that remembers, and decides. */
#pragma once
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST_ENTRIES 32768
#define BUCKETS 16384
#define LONGEST_NAME 96
#define LARGEST_CONTENT (4 << 20)
#define MOST_FOLDERS 128
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define LOWEST_KEPT 200 /* descriptors that are kept are above this */

enum count { HIDDEN, GHOSTS, OLD_CONTENTS, FULL_DISK, OVERFLOWED, COUNTS };

/* What the host believes about a name in a folder. Inode 0: nothing is there. */
struct entry {
    uint64_t folder, hash, shown, coming, own, content;
    int64_t coming_at, gone_at, content_at; /* when the truth will be shown */
    uint32_t next;
    struct stat status; /* of what is shown */
    char name[LONGEST_NAME];
};

/* The first fields in the order of _HEAD in late_folder.py. */
struct host {
    uint64_t delay, contents, full, counts[8];
    char folder[512];
    uint64_t is_ready;
    pthread_mutex_t lock;
    uint32_t used, buckets[BUCKETS];
    struct entry entries[MOST_ENTRIES];
};

static struct host *host;
static char contents_folder[PATH_MAX], boot_path[PATH_MAX];

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(number, ...) syscall(SYS_##number, __VA_ARGS__)

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int real_open(int folder, const char *name, int flags, mode_t mode)
{
    return (int)CALL(openat, folder, name, flags, mode);
}

static int real_status(int folder, const char *name, struct stat *status)
{
    return (int)CALL(newfstatat, folder, name, status, AT_SYMLINK_NOFOLLOW);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TUNECTL_LATE");
    int descriptor = path == NULL ? -1 : real_open(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (descriptor < 0)
        return;
    flock(descriptor, LOCK_EX);
    struct stat status;
    int is_large = fstat(descriptor, &status) == 0 && (size_t)status.st_size >= sizeof *host;
    int has_room = is_large || CALL(ftruncate, descriptor, sizeof *host) == 0;
    void *memory =
        has_room ? mmap(NULL, sizeof *host, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) : MAP_FAILED;
    if (memory != MAP_FAILED) {
        struct host *found = memory;
        if (!found->is_ready) {
            pthread_mutexattr_t kind;
            pthread_mutexattr_init(&kind);
            pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
            pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST); /* its holder may be killed */
            pthread_mutex_init(&found->lock, &kind);
            found->is_ready = 1;
        }
        snprintf(contents_folder, sizeof contents_folder, "%s.contents", path);
        snprintf(boot_path, sizeof boot_path, "%s.boot", path);
        mkdir(contents_folder, 0777);
        host = found;
    }
    flock(descriptor, LOCK_UN); /* the memory keeps the file open */
    CALL(close, descriptor);
}

static void take_lock(void)
{
    if (pthread_mutex_lock(&host->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&host->lock);
}

static void give_lock(void)
{
    pthread_mutex_unlock(&host->lock);
}

static void count(enum count kind)
{
    __atomic_add_fetch(&host->counts[kind], 1, __ATOMIC_RELAXED);
}

static uint64_t mixed(uint64_t value, uint64_t other)
{
    value = (value ^ other) * 0x9E3779B97F4A7C15ull;
    return value ^ (value >> 29);
}

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 14695981039346656037ull;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 1099511628211ull;
    return hash | 1;
}

/* How late this is shown: of the whole delay a share that is another one for each entry, version and host. */
static int64_t later(const struct entry *entry, uint64_t version)
{
    uint64_t drawn = mixed(mixed(mixed(entry->folder, entry->hash), version), hash_of(contents_folder));
    return now() + (int64_t)((double)host->delay * ((double)(drawn >> 11) / (double)(1ull << 53)));
}

static int64_t age_of(const struct timespec *changed)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (time.tv_sec - changed->tv_sec) * 1000000000LL + time.tv_nsec - changed->tv_nsec;
}

/* For how long a name has been there at the least: neither it nor its folder has changed since. */
static int64_t there_for(int folder, const struct stat *status)
{
    struct stat around;
    int64_t age = age_of(&status->st_ctim), other = fstat(folder, &around) == 0 ? age_of(&around.st_mtim) : 0;
    return age > other ? age : other;
}

/* --- which folder and which name a call is about */

static int is_below(const char *path)
{
    size_t length = strlen(host->folder);
    return strncmp(path, host->folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int path_of(int descriptor, char *found)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (descriptor == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    long length = CALL(readlink, link, found, PATH_MAX - 1);
    found[length < 0 ? 0 : length] = '\0';
    return length > 0 && is_below(found);
}

/* Names that are never late: unfinished files, which are only their writer's, locks, and the runner's database. */
static int is_exempt(const char *name)
{
    return name[0] == '.' || strncmp(name, "study.db", 8) == 0 || strstr(name, "lock") != NULL ||
           strlen(name) >= LONGEST_NAME;
}

/* --- folders that were seen, by their inode, so that they can be shown after others have renamed them */

static struct { uint64_t inode; int descriptor; } kept[MOST_FOLDERS];
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

static int is_inode(int descriptor, uint64_t inode)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && status.st_ino == inode;
}

static void keep_folder(int descriptor, uint64_t inode)
{
    if (pthread_mutex_trylock(&kept_lock) != 0)
        return;
    size_t place = inode % MOST_FOLDERS;
    if (kept[place].inode != inode || !is_inode(kept[place].descriptor, inode)) {
        if (kept[place].inode != 0 && is_inode(kept[place].descriptor, kept[place].inode))
            CALL(close, kept[place].descriptor);
        kept[place].descriptor = (int)CALL(fcntl, descriptor, F_DUPFD_CLOEXEC, LOWEST_KEPT);
        kept[place].inode = kept[place].descriptor < 0 ? 0 : inode;
    }
    pthread_mutex_unlock(&kept_lock);
}

static int kept_folder(uint64_t inode)
{
    size_t place = inode % MOST_FOLDERS;
    int found = -1;
    if (pthread_mutex_trylock(&kept_lock) != 0)
        return -1;
    if (kept[place].inode == inode && is_inode(kept[place].descriptor, inode))
        found = (int)CALL(fcntl, kept[place].descriptor, F_DUPFD_CLOEXEC, 0);
    pthread_mutex_unlock(&kept_lock);
    return found;
}

/* --- what is shown */

static struct entry *entry_of(uint64_t folder, const char *name)
{
    uint64_t hash = hash_of(name);
    uint32_t *bucket = &host->buckets[mixed(folder, hash) % BUCKETS];
    for (uint32_t number = *bucket; number != 0; number = host->entries[number - 1].next)
        if (host->entries[number - 1].folder == folder && host->entries[number - 1].hash == hash)
            return &host->entries[number - 1];
    if (host->used == MOST_ENTRIES) {
        count(OVERFLOWED);
        return NULL;
    }
    struct entry *entry = &host->entries[host->used];
    memset(entry, 0, sizeof *entry);
    entry->folder = folder, entry->hash = hash, entry->next = *bucket;
    snprintf(entry->name, sizeof entry->name, "%s", name);
    *bucket = ++host->used;
    return entry;
}

enum shown { TRUTH, ABSENT, GHOST };

/* What the host is shown of a name: what is there, nothing, or what was there before, with its status. */
static enum shown shown(int descriptor, uint64_t folder, const char *name, struct stat *before)
{
    struct stat status;
    enum shown result = TRUTH;
    uint64_t inode = real_status(descriptor, name, &status) == 0 ? status.st_ino : 0;
    take_lock();
    struct entry *entry = entry_of(folder, name);
    if (entry != NULL && entry->shown == inode) {
        entry->coming_at = entry->gone_at = 0;
        if (inode != 0)
            entry->status = status;
    } else if (entry != NULL) {
        int64_t *at = inode != 0 ? &entry->coming_at : &entry->gone_at;
        if (inode != 0 && entry->coming != inode)
            entry->coming = inode, *at = 0;
        if (*at == 0)
            *at = later(entry, inode) - (inode != 0 ? there_for(descriptor, &status) : 0);
        if (now() >= *at) {
            entry->shown = inode, entry->coming_at = entry->gone_at = 0;
            if (inode != 0)
                entry->status = status;
        } else {
            result = entry->shown == 0 ? ABSENT : GHOST;
            *before = entry->status;
        }
    }
    give_lock();
    return result;
}

/* The host itself has changed a name, or tried to: it sees at once what is there. */
static void changed(int descriptor, uint64_t folder, const char *name, int is_written)
{
    struct stat status;
    int error = errno;
    uint64_t inode = real_status(descriptor, name, &status) == 0 ? status.st_ino : 0;
    take_lock();
    struct entry *entry = entry_of(folder, name);
    if (entry != NULL) {
        entry->shown = inode, entry->coming_at = entry->gone_at = 0;
        if (inode != 0)
            entry->status = status;
        if (is_written)
            entry->own = inode;
    }
    give_lock();
    errno = error;
}

/* A name in its folder; `descriptor` is that of the folder, to be closed where `is_ours`. */
struct place {
    int descriptor, is_ours;
    uint64_t folder;
    char name[NAME_MAX + 1];
};

/* Opens one part of a path, as it is shown. */
static int inner(int descriptor, uint64_t folder, const char *name)
{
    struct stat before;
    enum shown what = is_exempt(name) ? TRUTH : shown(descriptor, folder, name, &before);
    int found = -1;
    errno = ENOENT;
    if (what == GHOST) {
        count(GHOSTS);
        if ((found = kept_folder(before.st_ino)) < 0)
            errno = ENOENT;
    } else if (what == ABSENT) {
        count(HIDDEN);
    } else if ((found = real_open(descriptor, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0)) >= 0) {
        struct stat status;
        if (fstat(found, &status) == 0)
            keep_folder(found, status.st_ino);
    }
    return found;
}

enum found { ELSEWHERE, THERE, NOWHERE };

/* Follows a path as it is shown. ELSEWHERE: it is not below the folder, or never late; NOWHERE: errno says why. */
static enum found find(int descriptor, const char *path, struct place *place)
{
    char text[2 * PATH_MAX], start[PATH_MAX + 1];
    if (host == NULL || path == NULL || path[0] == '\0')
        return ELSEWHERE;
    int is_relative = path[0] != '/';
    if (is_relative && !path_of(descriptor, start))
        return ELSEWHERE;
    if (!is_relative && (!is_below(path) || strcmp(path, host->folder) == 0))
        return ELSEWHERE;
    snprintf(text, sizeof text, "%s", is_relative ? path : path + strlen(host->folder) + 1);
    place->is_ours = !is_relative || descriptor == AT_FDCWD;
    place->descriptor = descriptor;
    if (place->is_ours)
        place->descriptor =
            real_open(AT_FDCWD, is_relative ? "." : host->folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (place->descriptor < 0)
        return ELSEWHERE;
    char *rest = NULL, *part = strtok_r(text, "/", &rest), *following;
    for (; part != NULL && (following = strtok_r(NULL, "/", &rest)) != NULL; part = following) {
        struct stat status;
        if (strcmp(part, "..") == 0 || fstat(place->descriptor, &status) != 0)
            break;
        int found = strcmp(part, ".") == 0 ? place->descriptor : inner(place->descriptor, status.st_ino, part);
        int error = errno;
        if (found != place->descriptor && place->is_ours)
            CALL(close, place->descriptor);
        if (found < 0) {
            errno = error;
            return NOWHERE;
        }
        place->is_ours |= found != place->descriptor;
        place->descriptor = found;
    }
    struct stat status;
    if (part == NULL || part[0] == '.' || strlen(part) > NAME_MAX || is_exempt(part) ||
        fstat(place->descriptor, &status) != 0) {
        if (place->is_ours)
            CALL(close, place->descriptor);
        return ELSEWHERE;
    }
    place->folder = status.st_ino;
    snprintf(place->name, sizeof place->name, "%s", part);
    return THERE;
}

static void leave(const struct place *place)
{
    int error = errno;
    if (place->is_ours)
        CALL(close, place->descriptor);
    errno = error;
}

static int fails(int error)
{
    errno = error;
    return -1;
}
