// A program of many small tests: `program` lists them, `program NAME` runs one in a fresh folder
// and says PASS, or where it failed. GNU C: handlers are nested functions where that keeps a test
// in one place.
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define FAIL(...)                                       \
  do {                                                  \
    printf("%s:%d: ", __func__, __LINE__);              \
    printf(__VA_ARGS__);                                \
    printf(" (errno %d %s)\n", errno, strerror(errno)); \
    fflush(stdout);                                     \
    _exit(1);                                           \
  } while (0)
#define CHECK(x)      \
  do {                \
    if (!(x)) {       \
      FAIL("%s", #x); \
    }                 \
  } while (0)
#define EQ(a, b)                                         \
  do {                                                   \
    const long a_ = (long)(a), b_ = (long)(b);           \
    if (a_ != b_) {                                      \
      FAIL("%s = %ld, wanted %s = %ld", #a, a_, #b, b_); \
    }                                                    \
  } while (0)
// The call fails with errno `e`.
#define ERR(call, e)                                    \
  do {                                                  \
    errno = 0;                                          \
    const long r_ = (long)(call);                       \
    if (r_ != -1 || errno != (e)) {                     \
      FAIL("%s = %ld, wanted errno %s", #call, r_, #e); \
    }                                                   \
  } while (0)

struct test {
  const char* name;
  void (*run)(void);
};
static struct test all_tests[512];
static int n_tests;
#define T(n)                                                    \
  static void t_##n(void);                                      \
  __attribute__((constructor)) static void register_##n(void) { \
    all_tests[n_tests++] = (struct test){#n, t_##n};            \
  }                                                             \
  static void t_##n(void)

static int handled[65];
static siginfo_t last_info;
static int order[256], n_order;
static void count(int s) {
  handled[s]++;
  if (n_order < 256)
    order[n_order++] = s;
}
static void count_info(int s, siginfo_t* i, void* c) {
  handled[s]++;
  last_info = *i;
  if (n_order < 256)
    order[n_order++] = s;
}
static void on(int s, int flags) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  if (flags & SA_SIGINFO)
    a.sa_sigaction = count_info;
  else
    a.sa_handler = count;
  a.sa_flags = flags;
  EQ(sigaction(s, &a, 0), 0);
}
static long ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
static int reap(pid_t p) {
  int st;
  pid_t got;
  do {
    got = waitpid(p, &st, 0);
  } while (got < 0 && errno == EINTR);
  EQ(got, p);
  return st;
}
static void child_ok(pid_t p) {
  int st = reap(p);
  if (st)
    FAIL("child status %#x", st);
}
static char* slurp(const char* path) {
  static char buf[1 << 20];
  int fd = open(path, O_RDONLY);
  if (fd < 0)
    FAIL("open %s", path);
  size_t at = 0;
  ssize_t n;
  while ((n = read(fd, buf + at, sizeof buf - 1 - at)) > 0)
    at += n;
  if (n < 0)
    FAIL("read %s", path);
  buf[at] = 0;
  close(fd);
  return buf;
}
static volatile long sink;
static void burn(int msec) {
  struct timespec a, b;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
  do {
    for (int i = 0; i < 100000; i++)
      sink += i;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
  } while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < msec);
}
static void nap(int m) {
  usleep(m * 1000);
}
int main(int c, char** v) {
  setvbuf(stdout, 0, _IOLBF, 0);
  if (c < 2) {
    for (int i = 0; i < n_tests; i++)
      puts(all_tests[i].name);
    return 0;
  }
  for (int i = 0; i < n_tests; i++)
    if (!strcmp(all_tests[i].name, v[1])) {
      char d[] = "test-XXXXXX";
      mkdtemp(d);
      chdir(d);
      all_tests[i].run();
      chdir("/");
      puts("PASS");
      return 0;
    }
  return 99;
}
