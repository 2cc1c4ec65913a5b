// Waits on a futex with a relative timeout: they end by the timeout and not before it, or by being
// woken, and by nothing else.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "rounds.h"

static int word, woken;

static long wait_on(int* futex, long milliseconds) {
  struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  return syscall(SYS_futex, futex, FUTEX_WAIT_PRIVATE, 0, &left, NULL, 0);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void* times_out(void* unused) {
  (void)unused;
  double begun = now();
  CHECK_EQ(wait_on(&word, 60), -1);
  CHECK_EQ(errno, ETIMEDOUT);
  CHECK(now() - begun > 0.0599);
  return NULL;
}

static void* is_woken(void* unused) {
  (void)unused;
  while (__atomic_load_n(&woken, __ATOMIC_SEQ_CST) == 0) {
    CHECK(wait_on(&woken, 600000) == 0 || errno == EAGAIN);
  }
  return NULL;
}

static void round_of(long number) {
  (void)number;
  pthread_t one, other;
  __atomic_store_n(&woken, 0, __ATOMIC_SEQ_CST);
  CHECK_EQ(pthread_create(&one, NULL, times_out, NULL), 0);
  CHECK_EQ(pthread_create(&other, NULL, is_woken, NULL), 0);
  CHECK_EQ(pthread_join(one, NULL), 0);
  __atomic_store_n(&woken, 1, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, &woken, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  CHECK_EQ(pthread_join(other, NULL), 0);
}

int main(void) {
  run_rounds(round_of);
  puts("timedwaits: all rounds alike");
  return 0;
}
