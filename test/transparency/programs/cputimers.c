// POSIX timers on CPU time: of the process, of threads; what they tell, and to whom.
#define _GNU_SOURCE
#include "check.h"

#define MS 1000000L

static struct itimerspec after(long value_ms, long interval_ms) {
  return (struct itimerspec){{interval_ms / 1000, interval_ms % 1000 * MS},
                             {value_ms / 1000, value_ms % 1000 * MS}};
}
static long ns_of(struct timespec t) {
  return t.tv_sec * 1000 * MS + t.tv_nsec;
}
static long clock_of(clockid_t clock) {
  struct timespec t;
  EQ(clock_gettime(clock, &t), 0);
  return ns_of(t);
}
static timer_t make(clockid_t clock, int signal, int value) {
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal, .sigev_value.sival_int = value};
  timer_t t;
  EQ(timer_create(clock, &e, &t), 0);
  return t;
}
static void set(timer_t t, long value_ms, long interval_ms) {
  struct itimerspec s = after(value_ms, interval_ms);
  EQ(timer_settime(t, 0, &s, 0), 0);
}
static struct itimerspec get(timer_t t) {
  struct itimerspec s;
  EQ(timer_gettime(t, &s), 0);
  return s;
}
// Burns until it has come so often; fails after 20 s of CPU time.
static void burn_until(volatile int* counter, int times) {
  long end = clock_of(CLOCK_PROCESS_CPUTIME_ID) + 20000 * MS;
  while (*counter < times) {
    burn(2);
    if (clock_of(CLOCK_PROCESS_CPUTIME_ID) > end)
      FAIL("came %d times of %d", *counter, times);
  }
}

T(periodic) {
  on(SIGUSR1, SA_SIGINFO);
  timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 77);
  set(t, 20, 20);
  for (int n = 1; n <= 5; n++) {
    burn_until(&handled[SIGUSR1], n);
    EQ(last_info.si_code, SI_TIMER);
    EQ(last_info.si_value.sival_int, 77);
    EQ(last_info.si_timerid, (long)t);
    struct itimerspec s = get(t);
    EQ(ns_of(s.it_interval), 20 * MS);
    CHECK(ns_of(s.it_value) > 0 && ns_of(s.it_value) <= 24 * MS);
  }
  EQ(timer_delete(t), 0);
  ERR(timer_delete(t), EINVAL);
  int seen = handled[SIGUSR1];
  burn(60);
  CHECK(handled[SIGUSR1] <= seen + 1);
}
T(once) {
  on(SIGALRM, 0);
  timer_t t;
  EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, 0, &t), 0);
  struct itimerspec zero = {};
  EQ(ns_of(get(t).it_value), 0);
  set(t, 200, 0);
  long left = ns_of(get(t).it_value);
  CHECK(left > 0 && left <= 204 * MS);
  burn(50);
  CHECK(ns_of(get(t).it_value) <= left - 45 * MS);
  burn_until(&handled[SIGALRM], 1);
  EQ(ns_of(get(t).it_value), 0);
  burn(250);
  EQ(handled[SIGALRM], 1);
  struct itimerspec old, s = after(5000, 100);
  EQ(timer_settime(t, 0, &s, &old), 0);
  EQ(ns_of(old.it_value), 0);
  EQ(timer_settime(t, 0, &zero, &old), 0);
  CHECK(ns_of(old.it_value) > 4000 * MS);
  EQ(ns_of(old.it_interval), 100 * MS);
  EQ(ns_of(get(t).it_value), 0);
}
static long fired_at;
static void note_time(int s) {
  fired_at = clock_of(CLOCK_PROCESS_CPUTIME_ID);
  handled[s]++;
}
T(absolute) {
  signal(SIGUSR2, note_time);
  timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR2, 0);
  long end = clock_of(CLOCK_PROCESS_CPUTIME_ID) + 40 * MS;
  struct itimerspec s = {{0}, {end / (1000 * MS), end % (1000 * MS)}};
  EQ(timer_settime(t, TIMER_ABSTIME, &s, 0), 0);
  burn_until(&handled[SIGUSR2], 1);
  CHECK(fired_at >= end);
  s = (struct itimerspec){{0}, {0, 1}};  // long past
  EQ(timer_settime(t, TIMER_ABSTIME, &s, 0), 0);
  burn_until(&handled[SIGUSR2], 2);
}
static volatile int of_thread, go_on;
static void* idle_then_busy(void* x) {
  timer_t t = make(CLOCK_THREAD_CPUTIME_ID, SIGUSR1, 0);
  set(t, 40, 0);
  go_on = 1;
  while (go_on != 2)
    nap(1);
  EQ(handled[SIGUSR1], 0);
  burn_until(&handled[SIGUSR1], 1);
  timer_delete(t);
  return 0;
}
T(thread_clock) {
  on(SIGUSR1, 0);
  pthread_t p;
  EQ(pthread_create(&p, 0, idle_then_busy, 0), 0);
  while (go_on != 1)
    nap(1);
  burn(100);  // not its time
  EQ(handled[SIGUSR1], 0);
  go_on = 2;
  pthread_join(p, 0);
}
T(clock_of_another_thread) {
  on(SIGUSR1, 0);
  pthread_t p;
  void* spin(void* x) {
    while (!go_on)
      burn(1);
    return 0;
  }
  EQ(pthread_create(&p, 0, spin, 0), 0);
  clockid_t clock;
  EQ(pthread_getcpuclockid(p, &clock), 0);
  timer_t t = make(clock, SIGUSR1, 0);
  set(t, 50, 50);
  long end = ms() + 20000;
  while (handled[SIGUSR1] < 2 && ms() < end)
    nap(5);
  CHECK(handled[SIGUSR1] >= 2);
  go_on = 1;
  pthread_join(p, 0);
  timer_delete(t);
}
static void who(int s) {
  of_thread = syscall(SYS_gettid);
}
static void* own_signal(void* x) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  e._sigev_un._tid = syscall(SYS_gettid);
  EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &t), 0);
  set(t, 30, 0);
  while (!of_thread)
    burn(5);
  EQ(of_thread, syscall(SYS_gettid));
  return 0;
}
T(to_one_thread) {
  signal(SIGUSR1, who);
  pthread_t p;
  EQ(pthread_create(&p, 0, own_signal, 0), 0);
  pthread_join(p, 0);
}
static volatile int called;
static void call(union sigval v) {
  called += v.sival_int;
}
T(by_thread) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = call, .sigev_value.sival_int = 3};
  EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &t), 0);
  set(t, 30, 0);
  burn_until(&called, 3);
  EQ(timer_delete(t), 0);
}
T(to_nobody) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_NONE};
  EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &t), 0);
  set(t, 60, 0);
  burn(30);
  CHECK(ns_of(get(t).it_value) <= 40 * MS);
  burn(60);
  CHECK(ns_of(get(t).it_value) <= 1);
}
T(overrun) {
  on(SIGUSR1, SA_SIGINFO);
  sigset_t set1;
  sigemptyset(&set1);
  sigaddset(&set1, SIGUSR1);
  timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 5);
  sigprocmask(SIG_BLOCK, &set1, 0);
  set(t, 20, 20);
  burn(200);
  EQ(handled[SIGUSR1], 0);
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGUSR1));
  sigprocmask(SIG_UNBLOCK, &set1, 0);
  CHECK(handled[SIGUSR1] >= 1);
  EQ(last_info.si_timerid, (long)t);
  timer_delete(t);
}
T(signal_waited_for) {
  sigset_t set1;
  sigemptyset(&set1);
  sigaddset(&set1, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &set1, 0);
  timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGRTMIN, 9);
  set(t, 20, 0);
  burn(60);
  siginfo_t info;
  EQ(sigwaitinfo(&set1, &info), SIGRTMIN);
  EQ(info.si_code, SI_TIMER);
  EQ(info.si_value.sival_int, 9);
  EQ(info.si_timerid, (long)t);
}
T(errors) {
  timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 0);
  long id = (long)t;
  struct itimerspec s = {{0}, {0, 1000 * MS}};
  ERR(syscall(SYS_timer_settime, id, 0, &s, 0), EINVAL);
  s = (struct itimerspec){{0}, {-1, 0}};
  ERR(syscall(SYS_timer_settime, id, 0, &s, 0), EINVAL);
  ERR(syscall(SYS_timer_settime, id, 0, 0, 0), EINVAL);
  ERR(syscall(SYS_timer_settime, id, 0, 8, 0), EFAULT);
  s = after(10000, 0);
  ERR(syscall(SYS_timer_settime, id, 0, &s, 8), EFAULT);
  CHECK(ns_of(get(t).it_value) > 0);  // it has been set
  ERR(syscall(SYS_timer_gettime, id, 8), EFAULT);
  ERR(syscall(SYS_timer_gettime, id + 1, &s), EINVAL);
  ERR(syscall(SYS_timer_settime, -1, 0, &s, 0), EINVAL);
  EQ(syscall(SYS_timer_getoverrun, id), 0);
  ERR(syscall(SYS_timer_getoverrun, id + 1), EINVAL);
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 99};
  ERR(syscall(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, &e, &id), EINVAL);
  ERR(syscall(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, 8, &id), EFAULT);
  ERR(syscall(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, 0, 8), EFAULT);
}
T(numbers_in_order) {
  int id[4];
  EQ(syscall(SYS_timer_create, CLOCK_MONOTONIC, 0, &id[0]), 0);
  EQ(syscall(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, 0, &id[1]), 0);
  EQ(syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, 0, &id[2]), 0);
  EQ(syscall(SYS_timer_create, CLOCK_REALTIME, 0, &id[3]), 0);
  for (int i = 1; i < 4; i++)
    EQ(id[i], id[0] + i);
  EQ(syscall(SYS_timer_delete, id[1]), 0);
  struct itimerspec s;
  ERR(syscall(SYS_timer_gettime, id[1], &s), EINVAL);
  EQ(syscall(SYS_timer_gettime, id[2], &s), 0);
}
T(not_inherited) {
  on(SIGUSR1, 0);
  timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 0);
  set(t, 30, 30);
  pid_t pid = fork();
  if (!pid) {
    handled[SIGUSR1] = 0;
    struct itimerspec s;
    if (timer_gettime(t, &s) != -1 || errno != EINVAL)
      _exit(1);
    burn(100);
    if (handled[SIGUSR1])
      _exit(2);
    timer_t own = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 0);
    set(own, 20, 0);
    burn_until(&handled[SIGUSR1], 1);
    _exit(0);
  }
  child_ok(pid);
  int seen = handled[SIGUSR1];
  burn_until(&handled[SIGUSR1], seen + 2);
}
T(gone_after_exec) {
  signal(SIGUSR1, SIG_DFL);
  pid_t pid = fork();
  if (!pid) {
    timer_t t = make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 0);
    set(t, 100, 100);
    execlp("sh", "sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", NULL);
  }
  child_ok(pid);
}
T(many) {
  on(SIGUSR1, 0);
  for (int i = 0; i < 40; i++)
    set(make(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, i), 20 + i, 0);
  burn_until(&handled[SIGUSR1], 20);
}
T(stopped_by_signal_default) {
  pid_t pid = fork();
  if (!pid) {
    signal(SIGXCPU, SIG_DFL);
    struct rlimit none = {};
    setrlimit(RLIMIT_CORE, &none);
    set(make(CLOCK_PROCESS_CPUTIME_ID, SIGXCPU, 0), 30, 0);
    for (;;)
      burn(10);
  }
  int status = reap(pid);
  CHECK(WIFSIGNALED(status));
  EQ(WTERMSIG(status), SIGXCPU);
}
static volatile int* told;
static void tell(int s) {
  ++told[0];
}
T(limit) {
  told = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pid = fork();
  if (!pid) {
    signal(SIGXCPU, tell);
    struct rlimit two = {1, 3};
    EQ(setrlimit(RLIMIT_CPU, &two), 0);
    for (;;)
      sink++;
  }
  int status = reap(pid);
  CHECK(WIFSIGNALED(status));
  EQ(WTERMSIG(status), SIGKILL);
  EQ(told[0], 2);  // after the first and the second second
}
T(limit_set_while_counting) {
  told = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pid = fork();
  if (!pid) {
    signal(SIGXCPU, tell);
    burn(300);
    struct rlimit one = {1, RLIM_INFINITY};
    EQ(setrlimit(RLIMIT_CPU, &one), 0);
    while (!told[0])
      sink++;
    one.rlim_cur = RLIM_INFINITY;
    EQ(setrlimit(RLIMIT_CPU, &one), 0);
    int seen = told[0];
    burn(1200);
    _exit(told[0] - seen);
  }
  child_ok(pid);
  EQ(told[0], 1);
}
