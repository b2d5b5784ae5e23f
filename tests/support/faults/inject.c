/* Loaded into every program of a run (LD_PRELOAD): counts the calls of libc that change files below a folder, and those
   that send something to QEMU's monitor, over all processes; at the N-th it lets one fail, or ends somebody.

   What is wanted is in a file beside this library, which all processes map (the class Control of inject.py). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Kinds of calls, and who makes them: bits of a mask. */
enum { WRITE, SYNC, RENAME, LINK, UNLINK, LENGTH, CREATE, MODE, MONITOR };
enum { US = 1, TOOL = 2, QEMU = 4 };
/* What is done at the N-th call: bits of a mask. */
enum { FAIL = 1, FROM = 2, KILL_US = 4, KILL_CALLER = 8, KILL_QEMU = 16, STOP_US = 32, POWER = 64, READ_ONLY = 128, AFTER = 256 };

struct control {
  int32_t armed, action, error, kinds, roles, us, qemu;
  int64_t at;
  _Atomic int64_t count;
  _Atomic int32_t hits, logged;
  char folder[256], what[512], log[1 << 20];
};

static struct control *control;
static int role;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

static void __attribute__((constructor)) begin(void) {
  Dl_info info;
  char path[PATH_MAX], program[PATH_MAX];
  if (!dladdr((void *)begin, &info)) return;
  snprintf(path, sizeof path, "%s.control", info.dli_fname);
  int (*open_file)(const char *, int, ...) = next("open");
  int fd = open_file(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at != MAP_FAILED) control = at;
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  program[length < 0 ? 0 : length] = 0;
  role = strstr(program, "qemu-system") ? QEMU : TOOL;
}

/* 0: go on, 1: go on, and then strike, 2: fail, 3: strike first */
static int look(int kind, const char *name, const char *path) {
  struct control *c = control;
  int mine = getpid() == c->us ? US : role;
  if (!(c->kinds & 1 << kind) || !(c->roles & mine)) return 0;
  int64_t number = ++c->count;
  if (c->at == 0 || (number > c->at - 4 && number < c->at + 4)) {
    char line[600];
    int length = snprintf(line, sizeof line, "%ld %d %d %s %s\n", (long)number, mine, kind, name, path);
    int at = atomic_fetch_add(&c->logged, length);
    if (at + length < (int)sizeof c->log) memcpy(c->log + at, line, length);
  }
  if (c->at == 0 || number < c->at || (number > c->at && !(c->action & FROM))) return 0;
  if (number == c->at) snprintf(c->what, sizeof c->what, "%s %s", name, path);
  c->hits++;
  if (c->action & POWER) {
    uint32_t at_once = 2; /* without writing what the journal has in memory */
    int (*open_file)(const char *, int, ...) = next("open");
    int fd = open_file(c->folder, O_RDONLY | O_CLOEXEC);
    if (ioctl(fd, _IOR('X', 125, uint32_t), &at_once)) snprintf(c->what, sizeof c->what, "no power loss: %m");
  }
  if (c->action & READ_ONLY && number == c->at && mount(NULL, c->folder, NULL, MS_REMOUNT, "abort"))
    snprintf(c->what, sizeof c->what, "not made read-only: %m");
  if (c->action & (FAIL | FROM)) return errno = c->error, 2;
  return c->action & AFTER ? 1 : (c->action & (KILL_US | KILL_CALLER | KILL_QEMU | STOP_US)) ? 3 : 0;
}

static void strike(void) {
  struct control *c = control;
  if (c->action & STOP_US) kill(c->us, SIGSTOP);
  if (c->action & KILL_QEMU && c->qemu > 1) kill(c->qemu, SIGKILL);
  if (c->action & KILL_US) kill(c->us, SIGKILL);
  if (c->action & KILL_CALLER) kill(getpid(), SIGKILL);
}

static int inside(const char *path) {
  size_t length = strlen(control->folder);
  return !strncmp(path, control->folder, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *path) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
  return length > 0;
}

static int about_name(int kind, const char *name, int folder, const char *path) {
  char whole[2 * PATH_MAX], here[PATH_MAX];
  if (!control || !control->armed || !path) return 0;
  int known = errno, fd;
  if (sscanf(path, "/proc/self/fd/%d", &fd) == 1 && path_of(fd, here)) path = here;
  else if (path[0] != '/') {
    if (folder == AT_FDCWD ? !getcwd(here, sizeof here) : !path_of(folder, here)) return 0;
    snprintf(whole, sizeof whole, "%s/%s", here, path);
    path = whole;
  }
  int answer = inside(path) ? look(kind, name, path) : 0;
  if (answer == 3) strike();
  if (answer != 2) errno = known;
  return answer;
}

static int about_file(int kind, const char *name, int fd) {
  char path[PATH_MAX];
  if (!control || !control->armed) return 0;
  int known = errno, answer = 0;
  if (path_of(fd, path)) {
    if (inside(path)) answer = look(kind, name, path);
    else if (kind == WRITE && getpid() == control->us && !strncmp(path, "socket:", 7)) answer = look(MONITOR, name, path);
  }
  if (answer == 3) strike();
  if (answer != 2) errno = known;
  return answer;
}

#define AROUND(answer, type, call) \
  int found = answer; \
  if (found == 2) return -1; \
  type result = call; \
  if (found == 1) strike(); \
  return result;
#define FILE_CALL(kind, type, name, declared, fd, given) \
  type name declared { \
    static type(*real) declared; \
    if (!real) real = next(#name); \
    AROUND(about_file(kind, #name, fd), type, real given) \
  }
#define NAME_CALL(kind, name, declared, folder, path, given) \
  int name declared { \
    static int(*real) declared; \
    if (!real) real = next(#name); \
    AROUND(about_name(kind, #name, folder, path), int, real given) \
  }

FILE_CALL(WRITE, ssize_t, write, (int fd, const void *data, size_t size), fd, (fd, data, size))
FILE_CALL(WRITE, ssize_t, writev, (int fd, const struct iovec *v, int n), fd, (fd, v, n))
FILE_CALL(WRITE, ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), fd, (fd, data, size, at))
FILE_CALL(WRITE, ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, (fd, data, size, at))
FILE_CALL(WRITE, ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), fd, (fd, v, n, at))
FILE_CALL(WRITE, ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), fd, (fd, v, n, at))
FILE_CALL(WRITE, ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int f), fd, (fd, v, n, at, f))
FILE_CALL(WRITE, ssize_t, pwritev64v2, (int fd, const struct iovec *v, int n, off64_t at, int f), fd, (fd, v, n, at, f))
FILE_CALL(WRITE, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), fd, (fd, message, flags))
FILE_CALL(WRITE, ssize_t, sendfile, (int to, int from, off_t *at, size_t size), to, (to, from, at, size))
FILE_CALL(WRITE, ssize_t, sendfile64, (int to, int from, off64_t *at, size_t size), to, (to, from, at, size))
FILE_CALL(WRITE, ssize_t, copy_file_range, (int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags), to,
          (from, a, to, b, size, flags))
FILE_CALL(SYNC, int, fsync, (int fd), fd, (fd))
FILE_CALL(SYNC, int, fdatasync, (int fd), fd, (fd))
FILE_CALL(SYNC, int, syncfs, (int fd), fd, (fd))
FILE_CALL(LENGTH, int, ftruncate, (int fd, off_t size), fd, (fd, size))
FILE_CALL(LENGTH, int, ftruncate64, (int fd, off64_t size), fd, (fd, size))
FILE_CALL(LENGTH, int, fallocate, (int fd, int mode, off_t at, off_t size), fd, (fd, mode, at, size))
FILE_CALL(LENGTH, int, fallocate64, (int fd, int mode, off64_t at, off64_t size), fd, (fd, mode, at, size))
FILE_CALL(MODE, int, fchmod, (int fd, mode_t mode), fd, (fd, mode))
FILE_CALL(MODE, int, fchown, (int fd, uid_t user, gid_t group), fd, (fd, user, group))
NAME_CALL(RENAME, rename, (const char *from, const char *to), AT_FDCWD, to, (from, to))
NAME_CALL(RENAME, renameat, (int a, const char *from, int b, const char *to), b, to, (a, from, b, to))
NAME_CALL(RENAME, renameat2, (int a, const char *from, int b, const char *to, unsigned f), b, to, (a, from, b, to, f))
NAME_CALL(LINK, link, (const char *from, const char *to), AT_FDCWD, to, (from, to))
NAME_CALL(LINK, linkat, (int a, const char *from, int b, const char *to, int flags), b, to, (a, from, b, to, flags))
NAME_CALL(UNLINK, unlink, (const char *path), AT_FDCWD, path, (path))
NAME_CALL(UNLINK, unlinkat, (int folder, const char *path, int flags), folder, path, (folder, path, flags))
NAME_CALL(MODE, chmod, (const char *path, mode_t mode), AT_FDCWD, path, (path, mode))
NAME_CALL(MODE, fchmodat, (int folder, const char *path, mode_t mode, int flags), folder, path, (folder, path, mode, flags))

#define OPEN_CALL(name, declared, folder, given) \
  int name declared { \
    static int(*real) declared; \
    if (!real) real = next(#name); \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
      va_list list; \
      va_start(list, flags); \
      mode = va_arg(list, mode_t); \
      va_end(list); \
    } \
    if (!(flags & (O_CREAT | O_WRONLY | O_RDWR))) return real given; \
    AROUND(about_name(CREATE, #name, folder, path), int, real given) \
  }
OPEN_CALL(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN_CALL(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN_CALL(openat, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))
OPEN_CALL(openat64, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))
