/* Shows a folder as a slow client of a file server does, and as one whose disk is full, to the processes of one "host":
 * those that have this library in LD_PRELOAD and the same file in TUNECTL_LATE (see late_folder.py, which compiles it).
 *
 * What the processes of the host do is done at once, and they see it at once. What others do shows later: an entry that
 * others made is not there, one that others removed or renamed is still there, and one that they replaced is the
 * earlier one, each for a time of its own, up to `delay` after the host could first have seen it. A folder that others
 * have renamed leads for that time to the same folder, wherever it is now, as the handle of a file server does. With
 * `contents`, files that others have changed show their earlier content for such a time. mkdir, rename, link, unlink
 * and open with O_CREAT are done by the "server": they see the truth, and so does whatever asks for that name afterwards.
 *
 * The host has a boot id of its own, as another machine has: it is in the file beside its own.
 *
 * With `full`, no file and no folder can be made and no file grows (ENOSPC).
 */
#define _GNU_SOURCE
#include "full_disk.h"
#include "late_folder.h"

/* --- looking */

static int status_of(int descriptor, const char *path, struct stat *status, int flags)
{
    struct place place;
    struct stat before;
    switch (path != NULL && path[0] == '\0' ? ELSEWHERE : find(descriptor, path, &place)) {
    case ELSEWHERE:
        return (int)CALL(newfstatat, descriptor, path, status, flags);
    case NOWHERE:
        return -1;
    case THERE:
        break;
    }
    int result = 0;
    switch (shown(place.descriptor, place.folder, place.name, &before)) {
    case TRUTH:
        result = (int)CALL(newfstatat, place.descriptor, place.name, status, flags);
        break;
    case GHOST:
        count(GHOSTS);
        *status = before;
        break;
    case ABSENT:
        count(HIDDEN);
        result = fails(ENOENT);
        break;
    }
    leave(&place);
    return result;
}

int fstatat(int folder, const char *path, struct stat *status, int flags)
{
    return status_of(folder, path, status, flags);
}

int fstatat64(int folder, const char *path, struct stat64 *status, int flags)
{
    return status_of(folder, path, (struct stat *)status, flags);
}

int stat(const char *path, struct stat *status)
{
    return status_of(AT_FDCWD, path, status, 0);
}

int stat64(const char *path, struct stat64 *status)
{
    return status_of(AT_FDCWD, path, (struct stat *)status, 0);
}

int lstat(const char *path, struct stat *status)
{
    return status_of(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

int lstat64(const char *path, struct stat64 *status)
{
    return status_of(AT_FDCWD, path, (struct stat *)status, AT_SYMLINK_NOFOLLOW);
}

int faccessat(int folder, const char *path, int mode, int flags)
{
    struct stat status;
    if (host != NULL && status_of(folder, path, &status, 0) != 0)
        return -1;
    int result = NEXT(faccessat)(folder, path, mode, flags);
    return result != 0 && errno == ENOENT && host != NULL ? 0 : result;
}

int access(const char *path, int mode)
{
    return faccessat(AT_FDCWD, path, mode, 0);
}

/* --- opening */

static uint64_t version_of(const struct stat *status)
{
    uint64_t time = (uint64_t)status->st_mtim.tv_sec * 1000000000ull + (uint64_t)status->st_mtim.tv_nsec;
    return mixed(mixed(mixed(1, status->st_ino), (uint64_t)status->st_size), time) | 1;
}

static void copy_content(int from, const char *path)
{
    char text[PATH_MAX + 32], buffer[65536];
    snprintf(text, sizeof text, "%s.%d", path, (int)syscall(SYS_gettid));
    int to = real_open(AT_FDCWD, text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (to < 0)
        return;
    long length, place = 0;
    while ((length = CALL(pread64, from, buffer, sizeof buffer, place)) > 0) {
        CALL(write, to, buffer, length);
        place += length;
    }
    CALL(close, to);
    CALL(rename, text, path);
}

/* The content that is shown of a file that others write: that of `descriptor`, which it may close, or an earlier one. */
static int content_of(int descriptor, const struct place *place, int flags)
{
    struct stat status;
    char path[PATH_MAX + 64];
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > LARGEST_CONTENT)
        return descriptor;
    take_lock();
    struct entry *entry = entry_of(place->folder, place->name);
    if (entry != NULL && entry->own != status.st_ino) {
        uint64_t version = version_of(&status);
        snprintf(path, sizeof path, "%s/%lx-%lx", contents_folder, place->folder, entry->hash);
        if (entry->content != 0 && entry->content != version && entry->content_at == 0)
            entry->content_at = later(entry, version);
        if (entry->content != 0 && entry->content != version && now() < entry->content_at) {
            int earlier = real_open(AT_FDCWD, path, flags & ~(O_NOFOLLOW | O_CREAT), 0);
            if (earlier >= 0) {
                count(OLD_CONTENTS);
                CALL(close, descriptor);
                descriptor = earlier;
            }
        } else if (entry->content != version) {
            copy_content(descriptor, path);
            entry->content = version, entry->content_at = 0;
        }
    }
    give_lock();
    return descriptor;
}

static int opens(int descriptor, const char *path, int flags, mode_t mode)
{
    struct place place;
    struct stat before, status;
    if (host != NULL && path != NULL && strcmp(path, BOOT_ID) == 0)
        return real_open(AT_FDCWD, boot_path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE)
        return real_open(descriptor, path, flags, mode);
    switch (find(descriptor, path, &place)) {
    case ELSEWHERE:
        if (flags & O_CREAT && is_full_for(descriptor, path) && real_status(descriptor, path, &status) != 0)
            return fails(ENOSPC);
        return real_open(descriptor, path, flags, mode);
    case NOWHERE:
        return -1;
    case THERE:
        break;
    }
    int writes = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH), found = -1;
    enum shown what = flags & O_CREAT ? TRUTH : shown(place.descriptor, place.folder, place.name, &before);
    if (flags & O_CREAT && is_full_for(descriptor, path) && real_status(place.descriptor, place.name, &status) != 0) {
        found = fails(ENOSPC);
    } else if (what == TRUTH) {
        found = real_open(place.descriptor, place.name, flags, mode);
        if (writes || flags & O_CREAT)
            changed(place.descriptor, place.folder, place.name, found >= 0);
        else if (found >= 0 && fstat(found, &status) == 0 && S_ISDIR(status.st_mode))
            keep_folder(found, status.st_ino);
        else if (found >= 0 && host->contents && !(flags & O_PATH))
            found = content_of(found, &place, flags);
    } else if (what == GHOST && S_ISDIR(before.st_mode)) {
        count(GHOSTS);
        found = kept_folder(before.st_ino);
        if (found >= 0 && !(flags & O_PATH)) {
            int listed = real_open(found, ".", flags & ~O_NOFOLLOW, 0);
            CALL(close, found);
            found = listed;
        } else if (found < 0) {
            errno = ENOENT;
        }
    } else if (what == GHOST && !host->contents) { /* opening a file asks the server */
        found = real_open(place.descriptor, place.name, flags, mode);
    } else {
        count(HIDDEN);
        found = fails(ENOENT);
    }
    leave(&place);
    return found;
}

static mode_t mode_of(int flags, va_list more)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENS(name, ...) \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return opens(__VA_ARGS__, path, flags, mode); \
    }

int open(const char *path, int flags, ...) OPENS(open, AT_FDCWD)
int open64(const char *path, int flags, ...) OPENS(open64, AT_FDCWD)
int openat(int folder, const char *path, int flags, ...) OPENS(openat, folder)
int openat64(int folder, const char *path, int flags, ...) OPENS(openat64, folder)

DIR *opendir(const char *path)
{
    int descriptor = opens(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    return descriptor < 0 ? NULL : fdopendir(descriptor);
}

/* --- listing: entries that are not shown yet are left out, and those that are still shown come last */

static __thread struct { DIR *listed; uint32_t next; struct dirent64 found; } last;

static struct dirent64 *next_ghost(DIR *listed)
{
    struct stat status, before;
    int descriptor = dirfd(listed);
    if (fstat(descriptor, &status) != 0)
        return NULL;
    if (last.listed != listed)
        last.listed = listed, last.next = 0;
    while (last.next < host->used) {
        struct entry *entry = &host->entries[last.next++];
        if (entry->folder != status.st_ino || entry->shown == 0)
            continue;
        struct stat real;
        if (real_status(descriptor, entry->name, &real) == 0)
            continue; /* it was listed */
        if (shown(descriptor, status.st_ino, entry->name, &before) != GHOST)
            continue;
        count(GHOSTS);
        last.found.d_ino = before.st_ino;
        last.found.d_type = S_ISDIR(before.st_mode) ? DT_DIR : DT_REG;
        last.found.d_reclen = sizeof last.found;
        snprintf(last.found.d_name, sizeof last.found.d_name, "%s", entry->name);
        return &last.found;
    }
    last.listed = NULL;
    return NULL;
}

struct dirent64 *readdir64(DIR *listed)
{
    static __typeof__(&readdir64) next;
    struct stat status, before;
    char text[PATH_MAX + 1];
    if (next == NULL)
        next = NEXT(readdir64);
    if (host == NULL)
        return next(listed);
    int error = errno, is_ours = path_of(dirfd(listed), text) && fstat(dirfd(listed), &status) == 0;
    errno = error;
    struct dirent64 *found;
    while ((found = next(listed)) != NULL && is_ours) {
        if (is_exempt(found->d_name) || shown(dirfd(listed), status.st_ino, found->d_name, &before) != ABSENT)
            break;
        count(HIDDEN);
        errno = error;
    }
    if (found != NULL || !is_ours)
        return found;
    error = errno; /* not 0 where the listing failed */
    found = next_ghost(listed);
    errno = error;
    return found;
}

struct dirent *readdir(DIR *listed)
{
    return (struct dirent *)readdir64(listed);
}

/* --- changing names: done by the server, and seen at once */

static int renames(int from_folder, const char *from, int to_folder, const char *to)
{
    struct place source, target;
    enum found is_source = find(from_folder, from, &source), is_target = find(to_folder, to, &target);
    int result = is_source == NOWHERE || is_target == NOWHERE
                     ? fails(ENOENT)
                     : (int)CALL(renameat, is_source == THERE ? source.descriptor : from_folder,
                                 is_source == THERE ? source.name : from,
                                 is_target == THERE ? target.descriptor : to_folder,
                                 is_target == THERE ? target.name : to);
    if (is_source == THERE) {
        changed(source.descriptor, source.folder, source.name, 0);
        leave(&source);
    }
    if (is_target == THERE) {
        changed(target.descriptor, target.folder, target.name, result == 0);
        leave(&target);
    }
    return result;
}

int rename(const char *from, const char *to)
{
    return renames(AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renames(from_folder, from, to_folder, to);
}

enum change { MAKE_FOLDER, MAKE_LINK, MAKE_SYMLINK, REMOVE };

static int changes(enum change change, int folder, const char *path, long more, const char *old, int old_folder)
{
    struct place place;
    if ((change == MAKE_FOLDER || change == MAKE_SYMLINK) && is_full_for(folder, path))
        return fails(ENOSPC);
    enum found found = find(folder, path, &place);
    if (found == NOWHERE)
        return -1;
    int descriptor = found == THERE ? place.descriptor : folder, result = 0;
    const char *name = found == THERE ? place.name : path;
    switch (change) {
    case MAKE_FOLDER:
        result = (int)CALL(mkdirat, descriptor, name, more);
        break;
    case MAKE_LINK:
        result = (int)CALL(linkat, old_folder, old, descriptor, name, more);
        break;
    case MAKE_SYMLINK:
        result = (int)CALL(symlinkat, old, descriptor, name);
        break;
    case REMOVE:
        result = (int)CALL(unlinkat, descriptor, name, more);
        break;
    }
    if (found == THERE) {
        changed(descriptor, place.folder, name, result == 0);
        leave(&place);
    }
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    return changes(MAKE_FOLDER, AT_FDCWD, path, (long)mode, NULL, 0);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    return changes(MAKE_FOLDER, folder, path, (long)mode, NULL, 0);
}

int link(const char *from, const char *to)
{
    return changes(MAKE_LINK, AT_FDCWD, to, 0, from, AT_FDCWD);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    return changes(MAKE_LINK, to_folder, to, flags, from, from_folder);
}

int symlink(const char *target, const char *path)
{
    return changes(MAKE_SYMLINK, AT_FDCWD, path, 0, target, 0);
}

int symlinkat(const char *target, int folder, const char *path)
{
    return changes(MAKE_SYMLINK, folder, path, 0, target, 0);
}

int unlink(const char *path)
{
    return changes(REMOVE, AT_FDCWD, path, 0, NULL, 0);
}

int unlinkat(int folder, const char *path, int flags)
{
    return changes(REMOVE, folder, path, flags, NULL, 0);
}

int rmdir(const char *path)
{
    return changes(REMOVE, AT_FDCWD, path, AT_REMOVEDIR, NULL, 0);
}
