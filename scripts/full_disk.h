/* The full disk of late_folder.c: no file and no folder is made, and no file grows. */
#include "late_folder.h"

static int is_full_for(int descriptor, const char *path)
{
    char text[PATH_MAX + 1];
    if (host == NULL || !__atomic_load_n(&host->full, __ATOMIC_RELAXED))
        return 0;
    int error = errno;
    int is_ours = path != NULL && path[0] == '/' ? is_below(path) : path_of(descriptor, text);
    errno = error;
    if (is_ours)
        count(FULL_DISK);
    return is_ours;
}

/* --- writing */

static int may_not_grow(int descriptor, off_t end)
{
    struct stat status;
    if (host == NULL || !__atomic_load_n(&host->full, __ATOMIC_RELAXED))
        return 0;
    int error = errno, fits = fstat(descriptor, &status) == 0 && (!S_ISREG(status.st_mode) || end <= status.st_size);
    errno = error;
    return !fits && is_full_for(descriptor, NULL);
}

static off_t end_after(int descriptor, size_t length)
{
    if (host == NULL || !__atomic_load_n(&host->full, __ATOMIC_RELAXED))
        return 0;
    int error = errno;
    off_t place = fcntl(descriptor, F_GETFL) & O_APPEND ? INT64_MAX / 2 : lseek(descriptor, 0, SEEK_CUR);
    errno = error;
    return place < 0 ? 0 : place + (off_t)length;
}

ssize_t write(int descriptor, const void *content, size_t length)
{
    if (length > 0 && may_not_grow(descriptor, end_after(descriptor, length)))
        return fails(ENOSPC);
    return CALL(write, descriptor, content, length);
}

ssize_t writev(int descriptor, const struct iovec *parts, int number)
{
    if (may_not_grow(descriptor, end_after(descriptor, 1)))
        return fails(ENOSPC);
    return CALL(writev, descriptor, parts, number);
}

ssize_t pwrite64(int descriptor, const void *content, size_t length, off64_t place)
{
    if (length > 0 && may_not_grow(descriptor, place + (off_t)length))
        return fails(ENOSPC);
    return CALL(pwrite64, descriptor, content, length, place);
}

ssize_t pwrite(int descriptor, const void *content, size_t length, off_t place)
{
    return pwrite64(descriptor, content, length, place);
}

int ftruncate64(int descriptor, off64_t length)
{
    return may_not_grow(descriptor, length) ? fails(ENOSPC) : (int)CALL(ftruncate, descriptor, length);
}

int ftruncate(int descriptor, off_t length)
{
    return ftruncate64(descriptor, length);
}
