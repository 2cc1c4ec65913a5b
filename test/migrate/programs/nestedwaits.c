// A handler that begins with the very call that it has interrupted, from the same place: what is
// left of the one is nothing of the other's.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "rounds.h"

#define MS 1000000LL
enum { kFull = 300000 };

static int full[2], free_pipe[2];
static volatile int handlers, sleeping;
static char data[kFull];

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 * MS + t.tv_nsec;
}

__attribute__((noinline)) static long sleep_for(long ns) {
  struct timespec t = {0, ns};
  return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL);
}

__attribute__((noinline)) static long put(int fd, const void* from, size_t n) {
  return syscall(SYS_write, fd, from, n);
}

static void on_alarm(int signal) {
  (void)signal;
  int error = errno;
  if (sleeping) {
    int64_t begin = now();
    CHECK_EQ(sleep_for(60 * MS), 0);
    CHECK(now() - begin >= 60 * MS);
  } else {
    CHECK_EQ(put(free_pipe[1], "abcde", 5), 5);
  }
  handlers++;
  errno = error;
}

static void alarm_in_ms(int ms, int every_ms) {
  struct itimerval timer = {{0, every_ms * 1000}, {0, ms * 1000}};
  CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

// On a busy machine the alarm may come before the call that it is to interrupt.
static void one_round(long number) {
  int before = handlers;
  sleeping = 1;
  alarm_in_ms(10 + (int)(number * 7 % 50), 0);
  sleep_for(70 * MS);
  while (handlers == before) {
    sleep_for(MS);
  }
  CHECK_EQ(handlers, before + 1);

  before = handlers;
  sleeping = 0;
  alarm_in_ms(10 + (int)(number * 11 % 50), 60);
  const long part = put(full[1], data, kFull);  // there is room for 64 KiB
  alarm_in_ms(0, 0);
  char drained[65536], text[5];
  CHECK_EQ(part, 65536);
  CHECK_EQ(read(full[0], drained, sizeof(drained)), 65536);
  for (int i = before; i < handlers; i++) {
    CHECK_EQ(read(free_pipe[0], text, 5), 5);
    CHECK_EQ(memcmp(text, "abcde", 5), 0);
  }
}

int main(void) {
  struct sigaction action = {.sa_handler = on_alarm};
  CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
  CHECK_EQ(pipe(full), 0);
  CHECK_EQ(pipe(free_pipe), 0);
  run_rounds(one_round);
  puts("nestedwaits: all alike");
  return 0;
}
