// CPU clocks and the timers on them, set by any thread at any moment of a move: a setting is never
// lost. `clocks`: and a clock never goes back. `leaderless`: the first thread is gone by then.
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "rounds.h"

enum { kSetters = 3, kReaders = 2, kTimesInARound = 400 };
#define SECOND 1000000000LL
// While a timer runs, the kernel tells a sum that is brought up to date at ticks (cputime_atomic of
// kernel/time/posix-cpu-timers.c): natively, too, the clock steps back a little when timers begin
// and end. A move would show with all that was used before it.
#define kSettling (SECOND / 100)

static volatile int ended;
static int clocks_too;
static pthread_t leader;

static int64_t ns_of(struct timespec t) {
  return t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t clock_of(clockid_t clock) {
  struct timespec t;
  CHECK_EQ(clock_gettime(clock, &t), 0);
  return ns_of(t);
}

// Its timer would go off in a thousand seconds and more: each time another value.
static void set_and_look(timer_t timer, long number) {
  const struct itimerspec wanted = {{number % 1000 + 1, 0}, {1000 + number % 1000, 0}};
  struct itimerspec found;
  CHECK_EQ(timer_settime(timer, 0, &wanted, NULL), 0);
  CHECK_EQ(timer_gettime(timer, &found), 0);
  CHECK_EQ(found.it_interval.tv_sec, wanted.it_interval.tv_sec);
  const int64_t gone = ns_of(wanted.it_value) - ns_of(found.it_value);
  CHECK(gone > -SECOND / 100 && gone < 500 * SECOND);
}

static void set_and_look_at(int which, long number) {
  const struct itimerval wanted = {{number % 1000 + 1, 0}, {1000 + number % 1000, 0}};
  struct itimerval found;
  CHECK_EQ(setitimer(which, &wanted, NULL), 0);
  CHECK_EQ(getitimer(which, &found), 0);
  CHECK_EQ(found.it_interval.tv_sec, wanted.it_interval.tv_sec);
  const long gone = wanted.it_value.tv_sec - found.it_value.tv_sec;
  CHECK(gone >= -1 && gone < 500);
}

static void* setter(void* argument) {
  const long id = (long)argument;
  for (long i = 0; i < kTimesInARound; i++) {
    if (id < 2) {
      set_and_look_at(id == 0 ? ITIMER_VIRTUAL : ITIMER_PROF, i);
      continue;
    }
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK_EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer), 0);
    set_and_look(timer, i);
    set_and_look(timer, i + 1);
    CHECK_EQ(timer_delete(timer), 0);
  }
  return NULL;
}

static void* reader(void* argument) {
  (void)argument;
  int64_t process = 0, own = 0;
  while (!ended) {
    const int64_t now = clock_of(CLOCK_PROCESS_CPUTIME_ID),
                  mine = clock_of(CLOCK_THREAD_CPUTIME_ID);
    CHECK(!clocks_too || now >= process - kSettling);
    CHECK(!clocks_too || mine >= own);
    process = now;
    own = mine;
  }
  return NULL;
}

static timer_t patient;

// It goes off once, in hours. Its signal is pending all the time, but not from it.
static void make_patient(void) {
  sigset_t blocked;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
  const struct itimerspec hours = {{0, 0}, {10000, 0}};
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGRTMIN);
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &blocked, NULL), 0);
  CHECK_EQ(raise(SIGRTMIN), 0);
  CHECK_EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &patient), 0);
  CHECK_EQ(timer_settime(patient, 0, &hours, NULL), 0);
}

static void round_of_timers(long number) {
  (void)number;
  struct itimerspec left;
  CHECK_EQ(timer_gettime(patient, &left), 0);
  CHECK(left.it_value.tv_sec > 5000);
  pthread_t setters[kSetters], readers[kReaders];
  ended = 0;
  for (long i = 0; i < kReaders; i++) {
    CHECK_EQ(pthread_create(&readers[i], NULL, reader, NULL), 0);
  }
  for (long i = 0; i < kSetters; i++) {
    CHECK_EQ(pthread_create(&setters[i], NULL, setter, (void*)i), 0);
  }
  for (int i = 0; i < kSetters; i++) {
    CHECK_EQ(pthread_join(setters[i], NULL), 0);
  }
  ended = 1;
  for (int i = 0; i < kReaders; i++) {
    CHECK_EQ(pthread_join(readers[i], NULL), 0);
  }
}

static void* all_rounds(void* wait_for_leader) {
  if (wait_for_leader != NULL) {
    CHECK_EQ(pthread_join(leader, NULL), 0);
  }
  make_patient();
  run_rounds(round_of_timers);
  puts("timerthreads: all settings kept");
  exit(0);
}

int main(int argc, char** argv) {
  const char* what = argc == 2 ? argv[1] : "";
  leader = pthread_self();
  clocks_too = strcmp(what, "clocks") == 0;
  if (strcmp(what, "leaderless") != 0) {
    all_rounds(NULL);
  }
  pthread_t heir;
  CHECK_EQ(pthread_create(&heir, NULL, all_rounds, &leader), 0);
  pthread_exit(NULL);
}
