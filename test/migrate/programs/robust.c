// A process that exits, or is killed, with a robust lock in shared memory: whoever waits for the
// lock gets it, and learns of that.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "rounds.h"

struct shared {
  pthread_mutex_t lock;
  volatile int held;
};
static struct shared* shared;

enum end { kExits, kIsKilled, kKillsItself, kEnds };

static void hold(long number, enum end end) {
  CHECK_EQ(pthread_mutex_lock(&shared->lock), 0);
  shared->held = 1;
  if (end == kKillsItself) {
    ualarm(1 + mix(number) % 2000, 0);
  }
  while (end != kExits) {
    pause();
  }
  usleep(mix(number) % 2000);
  _exit(3);
}

static void round_of(long number) {
  static const int kStatus[kEnds] = {3 << 8, SIGKILL, SIGALRM};
  for (int i = 0; i < 12; ++i) {
    const enum end end = i % kEnds;
    int status = 0;
    shared->held = 0;
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      hold(number * 12 + i, end);
    }
    while (!shared->held) {
      usleep(100);
    }
    if (end == kIsKilled) {
      usleep(mix(number * 12 + i) % 2000);
      CHECK_EQ(kill(pid, SIGKILL), 0);
    }
    CHECK_EQ(pthread_mutex_lock(&shared->lock), EOWNERDEAD);
    CHECK_EQ(pthread_mutex_consistent(&shared->lock), 0);
    CHECK_EQ(pthread_mutex_unlock(&shared->lock), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, kStatus[end]);
  }
}

int main(void) {
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  pthread_mutexattr_t attributes;
  CHECK_EQ(pthread_mutexattr_init(&attributes), 0);
  CHECK_EQ(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
  CHECK_EQ(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST), 0);
  CHECK_EQ(pthread_mutex_init(&shared->lock, &attributes), 0);
  run_rounds(round_of);
  puts("robust: each lock came back");
  return 0;
}
