// Time: monotonic clocks never step back nor leap ahead, in one thread or between two; sleeps are
// never short; absolute sleeps end when they should; CPU time grows.
#include <pthread.h>
#include <sys/time.h>
#include <time.h>

#include "rounds.h"

static const clockid_t kClocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
                                    CLOCK_MONOTONIC_COARSE};
static _Atomic uint64_t latest;

static uint64_t now(clockid_t clock) {
  struct timespec t;
  CHECK_EQ(clock_gettime(clock, &t), 0);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void* watcher(void* argument) {
  (void)argument;
  for (int i = 0; i < 20000;
       i++) {  // whatever another thread has read before is not later than what we read now
    uint64_t before = latest, t = now(CLOCK_MONOTONIC);
    CHECK(t >= before);
    uint64_t seen = latest;
    while (seen < t && !__atomic_compare_exchange_n((uint64_t*)&latest, &seen, t, 0,
                                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
  }
  return NULL;
}

static void one_round(long number) {
  static uint64_t last[4];
  (void)number;
  for (int i = 0; i < 4; i++) {
    uint64_t t = now(kClocks[i]);
    CHECK(t >= last[i]);
    CHECK(last[i] == 0 || t - last[i] < 30000000000u);  // nothing here takes half a minute
    last[i] = t;
  }
  CHECK(now(CLOCK_MONOTONIC) / 1000000000u <= now(CLOCK_BOOTTIME) / 1000000000u + 1);
  pthread_t a, b;
  CHECK_EQ(pthread_create(&a, NULL, watcher, NULL), 0);
  CHECK_EQ(pthread_create(&b, NULL, watcher, NULL), 0);
  CHECK_EQ(pthread_join(a, NULL), 0);
  CHECK_EQ(pthread_join(b, NULL), 0);
  uint64_t start = now(CLOCK_MONOTONIC);
  struct timespec nap = {0, 7000000};
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL), 0);
  uint64_t end = now(CLOCK_MONOTONIC);
  CHECK(end - start >= 7000000);
  uint64_t until = end + 5000000;
  struct timespec absolute = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &absolute, NULL), 0);
  CHECK(now(CLOCK_MONOTONIC) >= until);
  struct timeval day;
  CHECK_EQ(gettimeofday(&day, NULL), 0);
  time_t seconds = time(NULL);
  CHECK(seconds >= day.tv_sec - 1 && seconds <= day.tv_sec + 30);  // time() is a tick behind
  CHECK(now(CLOCK_REALTIME) / 1000000000u >= (uint64_t)day.tv_sec);
  struct timespec resolution;
  CHECK_EQ(clock_getres(CLOCK_MONOTONIC, &resolution), 0);
  CHECK(resolution.tv_sec == 0 && resolution.tv_nsec == 1);
}

// The CPU clocks count what was used anywhere, for as long as the program does not return home: there
// they are the kernel's own.
static void cpu_round(long number) {
  (void)number;
  static uint64_t seen[2];
  uint64_t x = 1;
  for (int i = 0; i < 300000; i++) {
    x = mix(x + 1);
  }
  const uint64_t thread = now(CLOCK_THREAD_CPUTIME_ID), process = now(CLOCK_PROCESS_CPUTIME_ID);
  CHECK(x && thread > seen[0] && process > seen[1]);
  seen[0] = thread;
  seen[1] = process;
}

int main(int argc, char **argv) {
  run_rounds(argc > 1 && strcmp(argv[1], "cpu") == 0 ? cpu_round : one_round);
  puts("clocks: time went on");
  return 0;
}
