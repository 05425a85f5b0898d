/* Faults at a chosen disk call of one process: it stands between the program and its C library.

   RUNOFF_SHIM_PATH   calls on files whose path holds this text count
   RUNOFF_SHIM_CALL   "write", "sync" or "any": which calls count
   RUNOFF_SHIM_AT     the number of the call, from 1, at which it happens
   RUNOFF_SHIM_FAULT  "kill" ends the process before the call; "once" fails it with EIO, "on" it and
                      all that follow; "full" fails writes with ENOSPC until the file named by
                      RUNOFF_SHIM_FREED exists

   Children do not inherit it: their own writes are not meant. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char path_part[512], freed[512];
static int counts_writes, counts_syncs, active;
static char fault;
static long at, calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void setting(const char *name, char *into, size_t size) {
    const char *value = getenv(name);
    if (value) snprintf(into, size, "%s", value);
    unsetenv(name);
}

__attribute__((constructor)) static void begin(void) {
    char call[16] = "any", number[32] = "0", how[16] = "";
    setting("RUNOFF_SHIM_PATH", path_part, sizeof path_part);
    setting("RUNOFF_SHIM_FREED", freed, sizeof freed);
    setting("RUNOFF_SHIM_CALL", call, sizeof call);
    setting("RUNOFF_SHIM_AT", number, sizeof number);
    setting("RUNOFF_SHIM_FAULT", how, sizeof how);
    unsetenv("LD_PRELOAD");
    counts_writes = strcmp(call, "sync") != 0;
    counts_syncs = strcmp(call, "write") != 0;
    at = atol(number);
    fault = how[0] == 'o' ? how[2] == 'c' ? '1' : '+' : how[0];
    active = path_part[0] && fault;
}

static int meant(int fd) {
    char link[64], target[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return strstr(target, path_part) != NULL;
}

/* The errno with which this call fails, or 0. */
static int verdict(int fd, int is_sync) {
    if (!active || !(is_sync ? counts_syncs : counts_writes) || !meant(fd)) return 0;
    pthread_mutex_lock(&lock);
    long number = ++calls;
    pthread_mutex_unlock(&lock);
    if (number < at || (fault == '1' && number > at)) return 0;
    if (fault == 'k') {
        kill(getpid(), SIGKILL);
        pause();
    }
    if (fault == 'f') return access(freed, F_OK) == 0 ? 0 : ENOSPC;
    return EIO;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF(fd, is_sync)                  \
    do {                                      \
        int trouble = verdict(fd, is_sync);   \
        if (trouble) {                        \
            errno = trouble;                  \
            return -1;                        \
        }                                     \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    FAIL_IF(fd, 0);
    return REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    FAIL_IF(fd, 0);
    return REAL(pwrite)(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    FAIL_IF(fd, 0);
    return REAL(pwrite64)(fd, data, size, offset);
}

int ftruncate(int fd, off_t size) {
    FAIL_IF(fd, 0);
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    FAIL_IF(fd, 0);
    return REAL(ftruncate64)(fd, size);
}

int fsync(int fd) {
    FAIL_IF(fd, 1);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    FAIL_IF(fd, 1);
    return REAL(fdatasync)(fd);
}
