// Signals: order, masks, siginfo, EINTR and restart, faults, stops, timers.
#include "check.h"
static void nothing(int s) {}
T(queue_order) {
  sigset_t m;
  sigfillset(&m);
  sigprocmask(SIG_BLOCK, &m, 0);
  on(SIGRTMIN, SA_SIGINFO);
  on(SIGRTMIN + 1, SA_SIGINFO);
  on(SIGRTMIN + 2, SA_SIGINFO);
  for (int s = 2; s >= 0; s--)
    for (int i = 0; i < 3; i++) {
      union sigval v = {.sival_int = i};
      EQ(sigqueue(getpid(), SIGRTMIN + s, v), 0);
    }
  for (int i = 0; i < 9; i++) {
    siginfo_t si;
    EQ(sigwaitinfo(&m, &si), SIGRTMIN + i / 3);
    EQ(si.si_value.sival_int, i % 3);
    EQ(si.si_code, SI_QUEUE);
    EQ(si.si_pid, getpid());
  }
}
static int vals[64], nv;
static void rec(int s, siginfo_t* i, void* c) {
  vals[nv++] = (s - SIGRTMIN) * 100 + i->si_value.sival_int;
}
T(queue_handlers) {
  sigset_t m, o;
  sigfillset(&m);
  sigprocmask(SIG_BLOCK, &m, &o);
  struct sigaction a = {.sa_sigaction = rec, .sa_flags = SA_SIGINFO};
  sigfillset(&a.sa_mask);
  for (int i = 0; i < 3; i++)
    sigaction(SIGRTMIN + i, &a, 0);
  for (int s = 2; s >= 0; s--)
    for (int i = 0; i < 10; i++) {
      union sigval v = {.sival_int = i};
      EQ(sigqueue(getpid(), SIGRTMIN + s, v), 0);
    }
  sigprocmask(SIG_SETMASK, &o, 0);
  EQ(nv, 30);
  for (int i = 0; i < 30; i++)
    EQ(vals[i], (i / 10) * 100 + i % 10);
}
T(queue_many) {
  sigset_t m, o;
  sigfillset(&m);
  sigprocmask(SIG_BLOCK, &m, &o);
  static int got;
  struct sigaction a = {.sa_sigaction = rec, .sa_flags = SA_SIGINFO};
  on(SIGRTMIN, SA_SIGINFO);
  for (int i = 0; i < 1000; i++) {
    union sigval v = {.sival_int = i};
    EQ(sigqueue(getpid(), SIGRTMIN, v), 0);
  }
  sigprocmask(SIG_SETMASK, &o, 0);
  EQ(handled[SIGRTMIN], 1000);
  EQ(last_info.si_value.sival_int, 999);
}
T(nested_order) { /* std signals low first; last delivered runs first when unmasked together */
  sigset_t m, o;
  sigfillset(&m);
  sigprocmask(SIG_BLOCK, &m, &o);
  on(SIGUSR1, 0);
  on(SIGUSR2, 0);
  on(SIGHUP, 0);
  kill(getpid(), SIGUSR2);
  kill(getpid(), SIGUSR1);
  kill(getpid(), SIGHUP);
  sigprocmask(SIG_SETMASK, &o, 0);
  EQ(n_order, 3);
  EQ(order[0], SIGUSR2);
  EQ(order[1], SIGUSR1);
  EQ(order[2], SIGHUP);
}
T(pending) {
  sigset_t m, p;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR1);
  sigprocmask(SIG_BLOCK, &m, 0);
  on(SIGUSR1, 0);
  raise(SIGUSR1);
  sigpending(&p);
  EQ(sigismember(&p, SIGUSR1), 1);
  EQ(sigismember(&p, SIGUSR2), 0);
  sigprocmask(SIG_UNBLOCK, &m, 0);
  EQ(handled[SIGUSR1], 1);
  sigpending(&p);
  EQ(sigismember(&p, SIGUSR1), 0);
}
T(ignore_pending) {
  sigset_t m, p;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR1);
  sigprocmask(SIG_BLOCK, &m, 0);
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  sigpending(&p);
  EQ(sigismember(&p, SIGUSR1), 0);
  signal(SIGUSR1, SIG_DFL);
  sigprocmask(SIG_UNBLOCK, &m, 0);
}
T(suspend) {
  on(SIGALRM, 0);
  on(SIGUSR1, 0);
  sigset_t m, o, c;
  sigemptyset(&m);
  sigaddset(&m, SIGALRM);
  sigaddset(&m, SIGUSR1);
  sigprocmask(SIG_BLOCK, &m, &o);
  raise(SIGUSR1);
  sigfillset(&c);
  sigdelset(&c, SIGALRM);
  alarm(1);
  ERR(sigsuspend(&c), EINTR);
  EQ(handled[SIGALRM], 1);
  EQ(handled[SIGUSR1], 0);
  sigset_t now;
  sigprocmask(0, 0, &now);
  EQ(sigismember(&now, SIGALRM), 1);
}
T(suspend_mask_in_handler) {
  static sigset_t in;
  void h(int s) {
    sigprocmask(0, 0, &in);
  }
  struct sigaction a = {.sa_handler = h};
  sigaddset(&a.sa_mask, SIGHUP);
  sigaction(SIGALRM, &a, 0);
  sigset_t c;
  sigemptyset(&c);
  sigaddset(&c, SIGUSR2);
  ualarm(50000, 0);
  ERR(sigsuspend(&c), EINTR);
  EQ(sigismember(&in, SIGALRM), 1);
  EQ(sigismember(&in, SIGHUP), 1);
  EQ(sigismember(&in, SIGUSR2), 1);
  sigprocmask(0, 0, &in);
  EQ(sigismember(&in, SIGUSR2), 0);
  EQ(sigismember(&in, SIGALRM), 0);
}
T(wait_timed) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR1);
  sigprocmask(SIG_BLOCK, &m, 0);
  struct timespec t = {0, 100000000};
  long a = ms();
  ERR(sigtimedwait(&m, 0, &t), EAGAIN);
  CHECK(ms() - a >= 99);
  t.tv_nsec = -1;
  ERR(sigtimedwait(&m, 0, &t), EINVAL);
  on(SIGALRM, 0);
  ualarm(50000, 0);
  t.tv_sec = 5;
  t.tv_nsec = 0;
  ERR(sigtimedwait(&m, 0, &t), EINTR);
  kill(getpid(), SIGUSR1);
  siginfo_t i;
  EQ(sigtimedwait(&m, &i, &t), SIGUSR1);
  EQ(i.si_code, SI_USER);
  EQ(i.si_pid, getpid());
  EQ(i.si_uid, getuid());
  syscall(SYS_tkill, gettid(), SIGUSR1);
  EQ(sigwaitinfo(&m, &i), SIGUSR1);
  int s;
  raise(SIGUSR1);
  EQ(sigwait(&m, &s), 0);
  EQ(s, SIGUSR1);
}
T(restart_read) {
  on(SIGALRM, SA_RESTART);
  int p[2];
  pipe(p);
  pid_t c = fork();
  if (!c) {
    nap(400);
    write(p[1], "x", 1);
    _exit(0);
  }
  ualarm(50000, 0);
  char b;
  EQ(read(p[0], &b, 1), 1);
  EQ(handled[SIGALRM], 1);
  child_ok(c);
}
T(eintr_read) {
  on(SIGALRM, 0);
  int p[2];
  pipe(p);
  ualarm(50000, 0);
  char b;
  ERR(read(p[0], &b, 1), EINTR);
  EQ(handled[SIGALRM], 1);
}
#define EINTR_TEST(n, setup, call) \
  T(eintr_##n) {                   \
    setup;                         \
    on(SIGALRM, 0);                \
    ualarm(50000, 0);              \
    ERR(call, EINTR);              \
    EQ(handled[SIGALRM], 1);       \
  }
#define NORESTART_TEST(n, setup, call) \
  T(norestart_##n) {                   \
    setup;                             \
    on(SIGALRM, SA_RESTART);           \
    ualarm(50000, 0);                  \
    ERR(call, EINTR);                  \
    EQ(handled[SIGALRM], 1);           \
  }
NORESTART_TEST(pause, , pause())
NORESTART_TEST(poll, , poll(0, 0, 5000))
NORESTART_TEST(ppoll, struct timespec ts = {5}, ppoll(0, 0, &ts, 0))
NORESTART_TEST(select, struct timeval tv = {5}, select(0, 0, 0, 0, &tv))
NORESTART_TEST(pselect, struct timespec ts = {5}, pselect(0, 0, 0, 0, &ts, 0))
NORESTART_TEST(epoll, int e = epoll_create(1); struct epoll_event ev, epoll_wait(e, &ev, 1, 5000))
NORESTART_TEST(nanosleep, struct timespec ts = {5}, nanosleep(&ts, &ts))
NORESTART_TEST(sigwaitinfo, sigset_t m; sigemptyset(&m); sigaddset(&m, SIGUSR1), sigwaitinfo(&m, 0))
NORESTART_TEST(sigsuspend, sigset_t m; sigemptyset(&m), sigsuspend(&m))
NORESTART_TEST(msgrcv, int q = msgget(IPC_PRIVATE, 0600); char mb[32], ({
                                                            int r = msgrcv(q, mb, 8, 0, 0);
                                                            int e = errno;
                                                            msgctl(q, IPC_RMID, 0);
                                                            errno = e;
                                                            r;
                                                          }))
NORESTART_TEST(semop, int q = semget(IPC_PRIVATE, 1, 0600); struct sembuf sb; sb.sem_num = 0;
               sb.sem_op = -1; sb.sem_flg = 0, ({
                                 int r = semop(q, &sb, 1);
                                 int e = errno;
                                 semctl(q, 0, IPC_RMID);
                                 errno = e;
                                 r;
                               }))
NORESTART_TEST(rcvtimeo, int sv[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
               struct timeval tv = {5}; setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
               char b, recv(sv[0], &b, 1, 0))
EINTR_TEST(
    wait, pid_t c = fork(); if (!c) {
      nap(1000);
      _exit(0);
    },
                            waitpid(-1, 0, 0))
EINTR_TEST(accept, int s = socket(AF_INET, SOCK_STREAM, 0); listen(s, 5), accept(s, 0, 0))
EINTR_TEST(recv, int sv[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, sv); char b, recv(sv[0], &b, 1, 0))
EINTR_TEST(flock, int f = open("l", O_CREAT | O_RDWR, 0600); flock(f, LOCK_EX);
           int g = open("l", O_RDWR), flock(g, LOCK_EX))
EINTR_TEST(
    fcntl, int p[2]; pipe(p); pid_t c = fork(); int f = open("l", O_CREAT | O_RDWR, 0600);
    struct flock k = {.l_type = F_WRLCK}; if (!c) {
      fcntl(f, F_SETLK, &k);
      write(p[1], "x", 1);
      nap(1000);
      _exit(0);
    } char b;
    read(p[0], &b, 1), fcntl(f, F_SETLKW, &k))
EINTR_TEST(open_fifo, mkfifo("ff", 0600), open("ff", O_RDONLY))
EINTR_TEST(write_pipe, int p[2]; pipe(p); fcntl(p[1], F_SETPIPE_SZ, 4096); char big[4096];
           write(p[1], big, 4096), write(p[1], big, 1))
EINTR_TEST(eventfd, int e = eventfd(0, 0); uint64_t v, read(e, &v, 8))
EINTR_TEST(timerfd, int e = timerfd_create(CLOCK_MONOTONIC, 0); uint64_t v, read(e, &v, 8))
EINTR_TEST(inotify, int e = inotify_init(); char v[100], read(e, v, 100))
EINTR_TEST(mq, mqd_t q; char n[40]; sprintf(n, "/tess%d", getpid());
           q = mq_open(n, O_CREAT | O_RDWR, 0600, 0); mq_unlink(n);
           char b[8192], mq_receive(q, b, 8192, 0))
EINTR_TEST(futex, int f = 0, syscall(SYS_futex, &f, FUTEX_WAIT, 0, 0, 0, 0))
EINTR_TEST(futex_to, int f = 0;
           struct timespec ts = {5}, syscall(SYS_futex, &f, FUTEX_WAIT, 0, &ts, 0, 0))
EINTR_TEST(clock_nanosleep, struct timespec ts = {5},
           (errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, 0), errno ? -1 : 0))
EINTR_TEST(
    waitid, pid_t c = fork(); if (!c) {
      nap(1000);
      _exit(0);
    } siginfo_t si,
                              waitid(P_ALL, 0, &si, WEXITED))
T(nanosleep_rest) {
  on(SIGALRM, 0);
  ualarm(100000, 0);
  struct timespec t = {2, 0}, r = {};
  ERR(nanosleep(&t, &r), EINTR);
  long l = r.tv_sec * 1000 + r.tv_nsec / 1000000;
  CHECK(l > 1500 && l < 1950);
}
T(partial_write) {
  on(SIGALRM, 0);
  int p[2];
  pipe(p);
  fcntl(p[1], F_SETPIPE_SZ, 4096);
  static char b[100000];
  ualarm(100000, 0);
  EQ(write(p[1], b, 100000), 4096);
}
T(nodefer) {
  static int depth, max;
  void h(int s) {
    if (++depth > max)
      max = depth;
    if (depth < 4)
      raise(s);
    depth--;
  }
  struct sigaction a = {.sa_handler = h, .sa_flags = SA_NODEFER};
  sigaction(SIGUSR1, &a, 0);
  raise(SIGUSR1);
  EQ(max, 4);
  a.sa_flags = 0;
  sigaction(SIGUSR2, &a, 0);
  depth = 3;
  max = 0;
  raise(SIGUSR2);
  EQ(max, 4);
}
T(defer) {
  static int in, nested, runs;
  void h(int s) {
    runs++;
    if (in)
      nested = 1;
    in = 1;
    if (runs < 3)
      raise(s);
    in = 0;
  }
  signal(SIGUSR1, h);
  raise(SIGUSR1);
  EQ(runs, 3);
  EQ(nested, 0);
}
T(resethand) {
  on(SIGUSR1, SA_RESETHAND | SA_SIGINFO);
  raise(SIGUSR1);
  struct sigaction a;
  sigaction(SIGUSR1, 0, &a);
  EQ((long)a.sa_handler, (long)SIG_DFL);
  CHECK(a.sa_flags & SA_RESETHAND);
  pid_t p = fork();
  if (!p) {
    raise(SIGUSR1);
    _exit(0);
  }
  EQ(reap(p), SIGUSR1);
}
T(onstack) {
  static char st[65536];
  static void* at;
  void h(int s) {
    int x;
    at = &x;
    stack_t o;
    sigaltstack(0, &o);
    if (!(o.ss_flags & SS_ONSTACK))
      at = 0;
    stack_t n = {.ss_sp = st, .ss_size = 65536};
    ERR(sigaltstack(&n, 0), EPERM);
  }
  stack_t s = {.ss_sp = st, .ss_size = 65536};
  EQ(sigaltstack(&s, 0), 0);
  struct sigaction a = {.sa_handler = h, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &a, 0);
  raise(SIGUSR1);
  CHECK((char*)at > st && (char*)at < st + 65536);
  stack_t o;
  sigaltstack(0, &o);
  EQ(o.ss_flags, 0);
  s.ss_size = 100;
  ERR(sigaltstack(&s, 0), ENOMEM);
  s.ss_flags = 77;
  ERR(sigaltstack(&s, 0), EINVAL);
  s.ss_flags = SS_DISABLE;
  EQ(sigaltstack(&s, 0), 0);
  sigaltstack(0, &o);
  EQ(o.ss_flags, SS_DISABLE);
}
static sigjmp_buf jb;
static siginfo_t fi;
static ucontext_t* fc;
static long fcr2, ftrap;
static void fault(int s, siginfo_t* i, void* c) {
  fi = *i;
  ucontext_t* u = c;
  fcr2 = u->uc_mcontext.gregs[REG_CR2];
  ftrap = u->uc_mcontext.gregs[REG_TRAPNO];
  siglongjmp(jb, 1);
}
static void catch_fault(int s) {
  struct sigaction a = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
  sigaction(s, &a, 0);
}
T(segv_maperr) {
  catch_fault(SIGSEGV);
  if (!sigsetjmp(jb, 1)) {
    *(volatile int*)0x1234 = 1;
    FAIL("no fault");
  }
  EQ(fi.si_signo, SIGSEGV);
  EQ(fi.si_code, SEGV_MAPERR);
  EQ((long)fi.si_addr, 0x1234);
  EQ(fcr2, 0x1234);
  EQ(ftrap, 14);
}
T(segv_accerr) {
  catch_fault(SIGSEGV);
  char* p = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!sigsetjmp(jb, 1)) {
    p[5] = 1;
    FAIL("no fault");
  }
  EQ(fi.si_code, SEGV_ACCERR);
  EQ((long)fi.si_addr, (long)p + 5);
}
T(segv_noncanon) {
  catch_fault(SIGSEGV);
  if (!sigsetjmp(jb, 1)) {
    *(volatile char*)0x1234567890abcdef = 1;
    FAIL("no fault");
  }
  EQ(fi.si_code, SI_KERNEL);
  EQ((long)fi.si_addr, 0);
}
T(fpe) {
  catch_fault(SIGFPE);
  if (!sigsetjmp(jb, 1)) {
    volatile int z = 0, y = 1;
    y = y / z;
    sink = y;
    FAIL("no fault");
  }
  EQ(fi.si_code, FPE_INTDIV);
}
T(ill) {
  catch_fault(SIGILL);
  if (!sigsetjmp(jb, 1)) {
    asm volatile("1: ud2");
    FAIL("no fault");
  }
  EQ(fi.si_code, ILL_ILLOPN);
  CHECK(fi.si_addr != 0);
}
T(trap) {
  catch_fault(SIGTRAP);
  if (!sigsetjmp(jb, 1)) {
    asm volatile("int3");
    FAIL("no fault");
  }
  EQ(fi.si_code, SI_KERNEL);
}
T(bus) {
  catch_fault(SIGBUS);
  int f = open("f", O_CREAT | O_RDWR, 0600);
  ftruncate(f, 4096);
  char* p = mmap(0, 8192, PROT_READ, MAP_PRIVATE, f, 0);
  if (!sigsetjmp(jb, 1)) {
    sink = p[5000];
    FAIL("no fault");
  }
  EQ(fi.si_code, BUS_ADRERR);
  EQ((long)fi.si_addr, (long)p + 5000);
}
T(fault_again) {
  catch_fault(SIGSEGV);
  for (int i = 0; i < 50; i++)
    if (!sigsetjmp(jb, 1)) {
      *(volatile int*)(long)(i * 8) = 1;
      FAIL("no");
    } else
      EQ((long)fi.si_addr, i * 8);
}
T(fault_fix_return) {
  static char* pg;
  void h(int s, siginfo_t* i, void* c) {
    mprotect(pg, 4096, 3);
  }
  struct sigaction a = {.sa_sigaction = h, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &a, 0);
  pg = mmap(0, 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pg[1] = 7;
  EQ(pg[1], 7);
}
T(fault_blocked) {
  pid_t p = fork();
  if (!p) {
    catch_fault(SIGSEGV);
    sigset_t m;
    sigfillset(&m);
    sigprocmask(SIG_BLOCK, &m, 0);
    *(volatile int*)8 = 1;
    _exit(0);
  }
  int s = reap(p);
  EQ(WTERMSIG(s), SIGSEGV);
}
T(stack_overflow) {
  pid_t p = fork();
  if (!p) {
    volatile char b[4096];
    int f(int n) {
      volatile char b[10000];
      b[0] = n;
      return n <= 0 ? 0 : f(n + 1) + b[0];
    }
    _exit(f(1));
  }
  int s = reap(p);
  EQ(WTERMSIG(s), SIGSEGV);
}
T(core_flag) {
  struct rlimit r = {0, RLIM_INFINITY};
  int sig[] = {SIGQUIT, SIGSEGV, SIGABRT, SIGFPE, SIGBUS};
  for (int i = 0; i < 5; i++) {
    pid_t p = fork();
    if (!p) {
      signal(sig[i], SIG_DFL);
      raise(sig[i]);
      _exit(1);
    }
    int s = reap(p);
    EQ(WTERMSIG(s), sig[i]);
    EQ(WCOREDUMP(s), 0);
  }
}
T(core_flag_set) {
  struct rlimit r;
  getrlimit(RLIMIT_CORE, &r);
  r.rlim_cur = r.rlim_max;
  if (setrlimit(RLIMIT_CORE, &r))
    return;
  char* cp = slurp("/proc/sys/kernel/core_pattern");
  pid_t p = fork();
  if (!p) {
    abort();
  }
  int s = reap(p);
  EQ(WTERMSIG(s), SIGABRT);
  printf("core %d\n", WCOREDUMP(s) != 0);
  p = fork();
  if (!p) {
    *(volatile int*)3 = 1;
  }
  s = reap(p);
  EQ(WTERMSIG(s), SIGSEGV);
  printf("core %d\n", WCOREDUMP(s) != 0);
}
T(stop_cont) {
  pid_t p = fork();
  if (!p) {
    setpgid(0, 0);  // a group that is not orphaned: SIGTSTP stops it
    while (1)
      pause();
  }
  setpgid(p, p);  // whoever comes first
  int s;
  kill(p, SIGSTOP);
  EQ(waitpid(p, &s, WUNTRACED), p);
  CHECK(WIFSTOPPED(s));
  EQ(WSTOPSIG(s), SIGSTOP);
  EQ(waitpid(p, &s, WUNTRACED | WNOHANG), 0);
  kill(p, SIGCONT);
  EQ(waitpid(p, &s, WCONTINUED), p);
  CHECK(WIFCONTINUED(s));
  siginfo_t i = {};
  kill(p, SIGTSTP);
  EQ(waitid(P_PID, p, &i, WSTOPPED), 0);
  EQ(i.si_code, CLD_STOPPED);
  EQ(i.si_status, SIGTSTP);
  kill(p, SIGCONT);
  EQ(waitid(P_PID, p, &i, WCONTINUED), 0);
  EQ(i.si_code, CLD_CONTINUED);
  EQ(i.si_status, SIGCONT);
  kill(p, SIGKILL);
  EQ(waitid(P_PID, p, &i, WEXITED), 0);
  EQ(i.si_code, CLD_KILLED);
  EQ(i.si_status, SIGKILL);
}
T(stop_running) {
  pid_t p = fork();
  if (!p) {
    while (1)
      sink++;
  }
  int s;
  nap(100);
  kill(p, SIGSTOP);
  EQ(waitpid(p, &s, WUNTRACED), p);
  nap(50);
  char w[64];
  kill(p, SIGCONT);
  EQ(waitpid(p, &s, WCONTINUED), p);
  kill(p, SIGTERM);
  EQ(reap(p), SIGTERM);
}
T(stop_self) {
  pid_t p = fork();
  if (!p) {
    raise(SIGSTOP);
    _exit(5);
  }
  int s;
  EQ(waitpid(p, &s, WUNTRACED), p);
  EQ(WSTOPSIG(s), SIGSTOP);
  kill(p, SIGCONT);
  EQ(reap(p), 5 << 8);
}
T(cont_handler) {
  pid_t p = fork();
  if (!p) {
    on(SIGCONT, 0);
    raise(SIGSTOP);
    _exit(handled[SIGCONT]);
  }
  int s;
  EQ(waitpid(p, &s, WUNTRACED), p);
  kill(p, SIGCONT);
  EQ(reap(p), 1 << 8);
}
T(sigchld_info) {
  on(SIGCHLD, SA_SIGINFO);
  pid_t p = fork();
  if (!p) {
    nap(50);
    _exit(7);
  }
  while (!handled[SIGCHLD])
    nap(1);
  EQ(last_info.si_pid, p);
  EQ(last_info.si_status, 7);
  EQ(last_info.si_code, CLD_EXITED);
  reap(p);
  p = fork();
  if (!p) {
    nap(50);
    raise(SIGKILL);
  }
  while (handled[SIGCHLD] < 2)
    nap(1);
  EQ(last_info.si_code, CLD_KILLED);
  EQ(last_info.si_status, SIGKILL);
  reap(p);
  p = fork();
  if (!p) {
    nap(30);
    raise(SIGSTOP);
    nap(30);
    _exit(0);
  }
  while (handled[SIGCHLD] < 3)
    nap(1);
  EQ(last_info.si_code, CLD_STOPPED);
  kill(p, SIGCONT);
  while (handled[SIGCHLD] < 4)
    nap(1);
  EQ(last_info.si_code, CLD_CONTINUED);
  reap(p);
}
T(nocldstop) {
  on(SIGCHLD, SA_NOCLDSTOP);
  pid_t p = fork();
  if (!p) {
    raise(SIGSTOP);
    pause();
  }
  int s;
  EQ(waitpid(p, &s, WUNTRACED), p);
  EQ(handled[SIGCHLD], 0);
  kill(p, SIGKILL);
  while (!handled[SIGCHLD])
    nap(1);
  reap(p);
}
T(nocldwait) {
  struct sigaction a = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
  sigaction(SIGCHLD, &a, 0);
  pid_t p = fork();
  if (!p)
    _exit(3);
  nap(200);
  ERR(waitpid(p, 0, 0), ECHILD);
  signal(SIGCHLD, SIG_IGN);
  p = fork();
  if (!p)
    _exit(3);
  ERR(wait(0), ECHILD);
}
T(sigpipe) {
  pid_t p = fork();
  if (!p) {
    signal(SIGPIPE, SIG_DFL);
    int q[2];
    pipe(q);
    close(q[0]);
    write(q[1], "x", 1);
    _exit(0);
  }
  EQ(reap(p), SIGPIPE);
  signal(SIGPIPE, SIG_IGN);
  int q[2];
  pipe(q);
  close(q[0]);
  ERR(write(q[1], "x", 1), EPIPE);
  on(SIGPIPE, 0);
  ERR(write(q[1], "x", 1), EPIPE);
  EQ(handled[SIGPIPE], 1);
}
T(itimer_real) {
  on(SIGALRM, 0);
  struct itimerval t = {{0, 20000}, {0, 20000}}, o;
  EQ(setitimer(ITIMER_REAL, &t, 0), 0);
  while (handled[SIGALRM] < 10)
    nap(1);
  getitimer(ITIMER_REAL, &o);
  EQ(o.it_interval.tv_usec, 20000);
  memset(&t, 0, sizeof t);
  setitimer(ITIMER_REAL, &t, &o);
  CHECK(o.it_value.tv_usec <= 20000);
}
T(itimer_spin) {
  on(SIGALRM, 0);
  struct itimerval t = {{0, 10000}, {0, 10000}};
  setitimer(ITIMER_REAL, &t, 0);
  while (handled[SIGALRM] < 20)
    sink++;
}
T(itimer_virtual) {
  on(SIGVTALRM, 0);
  struct itimerval t = {{0, 20000}, {0, 20000}}, o;
  setitimer(ITIMER_VIRTUAL, &t, 0);
  while (handled[SIGVTALRM] < 5)
    sink++;
  memset(&t, 0, sizeof t);
  setitimer(ITIMER_VIRTUAL, &t, 0);
}
T(itimer_prof) {
  on(SIGPROF, 0);
  struct itimerval t = {{0, 20000}, {0, 20000}};
  setitimer(ITIMER_PROF, &t, 0);
  while (handled[SIGPROF] < 5)
    getppid();
}
T(itimer_dies) {
  pid_t p = fork();
  if (!p) {
    struct itimerval t = {{0}, {0, 20000}};
    setitimer(ITIMER_VIRTUAL, &t, 0);
    while (1)
      sink++;
  }
  EQ(reap(p), SIGVTALRM);
}
T(alarm_left) {
  on(SIGALRM, 0);
  EQ(alarm(100), 0);
  EQ(alarm(2), 100);
  CHECK(alarm(0) <= 2);
  pid_t p = fork();
  if (!p) {
    signal(SIGALRM, SIG_DFL);
    alarm(1);
    while (1)
      sink++;
  }
  EQ(reap(p), SIGALRM);
}
static volatile int tgot;
static void tn(union sigval v) {
  tgot = v.sival_int;
}
T(timer_thread) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tn};
  e.sigev_value.sival_int = 42;
  EQ(timer_create(CLOCK_MONOTONIC, &e, &t), 0);
  struct itimerspec s = {{0}, {0, 20000000}};
  EQ(timer_settime(t, 0, &s, 0), 0);
  for (int i = 0; i < 200 && !tgot; i++)
    nap(10);
  EQ(tgot, 42);
  timer_delete(t);
}
T(timer_tid) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
  e._sigev_un._tid = gettid();
  e.sigev_value.sival_int = 9;
  on(SIGRTMIN, SA_SIGINFO);
  EQ(timer_create(CLOCK_REALTIME, &e, &t), 0);
  struct itimerspec s = {{0}, {0, 20000000}};
  timer_settime(t, 0, &s, 0);
  while (!handled[SIGRTMIN])
    nap(1);
  EQ(last_info.si_code, SI_TIMER);
  EQ(last_info.si_value.sival_int, 9);
  EQ(last_info.si_overrun, 0);
}
T(timer_overrun) {
  timer_t t;
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &m, 0);
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
  timer_create(CLOCK_MONOTONIC, &e, &t);
  struct itimerspec s = {{0, 1000000}, {0, 1000000}};
  timer_settime(t, 0, &s, 0);
  nap(100);
  siginfo_t i;
  EQ(sigwaitinfo(&m, &i), SIGRTMIN);
  CHECK(i.si_overrun > 20);
  CHECK(timer_getoverrun(t) > 20);
}
// What waits for a point in time at home is over when the process's own clock has got there.
static long early_ns(const struct timespec* due) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (due->tv_sec - now.tv_sec) * 1000000000L + due->tv_nsec - now.tv_nsec;
}
static void soon(struct itimerspec* t) {
  memset(t, 0, sizeof *t);
  clock_gettime(CLOCK_MONOTONIC, &t->it_value);
  t->it_value.tv_nsec += 3000000;
  t->it_value.tv_sec += t->it_value.tv_nsec / 1000000000;
  t->it_value.tv_nsec %= 1000000000;
}
T(timer_by_own_clock) {
  struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  struct itimerspec t;
  uint64_t times;
  timer_t timer;
  const int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  on(SIGUSR1, 0);
  EQ(timer_create(CLOCK_MONOTONIC, &by_signal, &timer), 0);
  for (int i = 0; i < 30; i++) {
    soon(&t);
    EQ(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0), 0);
    EQ(read(fd, &times, 8), 8);
    CHECK(early_ns(&t.it_value) <= 0);
    soon(&t);
    EQ(timer_settime(timer, TIMER_ABSTIME, &t, 0), 0);
    while (handled[SIGUSR1] == i)
      ;
    CHECK(early_ns(&t.it_value) <= 0);
  }
}
T(timer_cpu) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
  on(SIGRTMIN, 0);
  EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &t), 0);
  struct itimerspec s = {{0, 0}, {0, 50000000}};
  EQ(timer_settime(t, 0, &s, 0), 0);
  long a = ms();
  while (!handled[SIGRTMIN]) {
    sink++;
    if (ms() - a > 5000)
      FAIL("no cpu timer");
  }
}
T(timer_cpu_thread) {
  timer_t t;
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
  on(SIGRTMIN, 0);
  EQ(timer_create(CLOCK_THREAD_CPUTIME_ID, &e, &t), 0);
  struct itimerspec s = {{0, 0}, {0, 50000000}}, g;
  EQ(timer_settime(t, 0, &s, 0), 0);
  EQ(timer_gettime(t, &g), 0);
  long a = ms();
  while (!handled[SIGRTMIN]) {
    sink++;
    if (ms() - a > 5000)
      FAIL("no cpu timer");
  }
}
T(clock_sleep_cpu) {
  clockid_t c;
  pid_t p = fork();
  if (!p) {
    while (1)
      sink++;
  }
  EQ(clock_getcpuclockid(p, &c), 0);
  struct timespec a, b;
  EQ(clock_gettime(c, &a), 0);
  nap(300);
  clock_gettime(c, &b);
  long d = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
  kill(p, 9);
  reap(p);
  if (d < 20)
    FAIL("cpu %ld", d);
}
T(cputime_nanosleep) {
  static volatile int stop;
  void* f(void* a) {
    while (!stop)
      sink++;
    return 0;
  }
  pthread_t t;
  pthread_create(&t, 0, f, 0);
  struct timespec s = {0, 50000000};
  EQ(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &s, 0), 0);
  stop = 1;
  pthread_join(t, 0);
}
T(signalfd_read) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR1);
  sigaddset(&m, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &m, 0);
  int f = signalfd(-1, &m, SFD_NONBLOCK);
  struct signalfd_siginfo i;
  ERR(read(f, &i, sizeof i), EAGAIN);
  kill(getpid(), SIGUSR1);
  EQ(read(f, &i, sizeof i), sizeof i);
  EQ(i.ssi_signo, SIGUSR1);
  EQ(i.ssi_pid, getpid());
  union sigval v = {.sival_int = 77};
  sigqueue(getpid(), SIGRTMIN, v);
  EQ(read(f, &i, sizeof i), sizeof i);
  EQ(i.ssi_int, 77);
}
T(sigio) {
  int p[2];
  pipe(p);
  on(SIGIO, SA_SIGINFO);
  fcntl(p[0], F_SETOWN, getpid());
  fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK);
  write(p[1], "x", 1);
  long a = ms();
  while (!handled[SIGIO] && ms() - a < 2000)
    ;
  EQ(handled[SIGIO] > 0, 1);
  fcntl(p[0], F_SETSIG, SIGRTMIN + 3);
  on(SIGRTMIN + 3, SA_SIGINFO);
  write(p[1], "x", 1);
  EQ(handled[SIGRTMIN + 3], 1);
  EQ(last_info.si_fd, p[0]);
  EQ(last_info.si_code, POLL_IN);
  EQ(fcntl(p[0], F_GETOWN), getpid());
}
T(kill_errors) {
  ERR(kill(getpid(), 65), EINVAL);
  ERR(kill(999999, 0), ESRCH);
  EQ(kill(getpid(), 0), 0);
  ERR(kill(getpid(), -1), EINVAL);
}
T(kill_group) {
  on(SIGUSR1, 0);
  setpgid(0, 0);
  pid_t p = fork();
  if (!p) {
    on(SIGUSR1, 0);
    kill(0, SIGUSR1);
    _exit(handled[SIGUSR1] ? 0 : 1);
  }
  child_ok(p);
  while (!handled[SIGUSR1])
    nap(1);
}
T(thread_directed) {
  static int who;
  void h(int s) {
    who = gettid();
  }
  signal(SIGUSR1, h);
  static int tid;
  static volatile int stop;
  void* f(void* a) {
    tid = gettid();
    while (!stop)
      sink++;
    return 0;
  }
  pthread_t t;
  pthread_create(&t, 0, f, 0);
  while (!*(volatile int*)&tid)
    ;
  EQ(syscall(SYS_tgkill, getpid(), tid, SIGUSR1), 0);
  long a = ms();
  while (!who && ms() - a < 3000)
    nap(1);
  stop = 1;
  pthread_join(t, 0);
  EQ(who, tid);
}
T(sigqueue_other_thread_mask) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &m, 0);
  static int got;
  void* f(void* a) {
    int s;
    sigset_t m;
    sigemptyset(&m);
    sigaddset(&m, SIGUSR1);
    sigwait(&m, &s);
    got = s;
    return 0;
  }
  pthread_t t;
  pthread_create(&t, 0, f, 0);
  nap(50);
  kill(getpid(), SIGUSR1);
  pthread_join(t, 0);
  EQ(got, SIGUSR1);
}
T(mask_inherit) {
  sigset_t m, o;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR2);
  sigprocmask(SIG_BLOCK, &m, 0);
  pid_t p = fork();
  if (!p) {
    sigprocmask(0, 0, &o);
    _exit(!sigismember(&o, SIGUSR2));
  }
  child_ok(p);
}
T(siglongjmp_handler) {
  void h(int s) {
    siglongjmp(jb, 5);
  }
  signal(SIGALRM, h);
  for (int i = 0; i < 3; i++) {
    int r = sigsetjmp(jb, 1);
    if (!r) {
      ualarm(20000, 0);
      while (1)
        sink++;
    }
    EQ(r, 5);
    sigset_t o;
    sigprocmask(0, 0, &o);
    EQ(sigismember(&o, SIGALRM), 0);
  }
}
T(longjmp_nomask) {
  void h(int s) {
    longjmp(*(jmp_buf*)&jb, 5);
  }
  signal(SIGALRM, h);
  if (!setjmp(*(jmp_buf*)&jb)) {
    ualarm(20000, 0);
    while (1)
      sink++;
  }
  sigset_t o;
  sigprocmask(0, 0, &o);
  EQ(sigismember(&o, SIGALRM), 1);
}
T(ucontext_mask_edit) {
  void h(int s, siginfo_t* i, void* c) {
    ucontext_t* u = c;
    sigaddset(&u->uc_sigmask, SIGUSR2);
    u->uc_mcontext.gregs[REG_R15] = u->uc_mcontext.gregs[REG_R15];
  }
  struct sigaction a = {.sa_sigaction = h, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &a, 0);
  raise(SIGUSR1);
  sigset_t o;
  sigprocmask(0, 0, &o);
  EQ(sigismember(&o, SIGUSR2), 1);
}
T(sigaction_values) {
  struct sigaction a, b;
  for (int s = 1; s < 65; s++) {
    if (s == 9 || s == 19 || s == 32 || s == 33)
      continue;
    memset(&a, 0, sizeof a);
    a.sa_handler = nothing;
    a.sa_flags = SA_RESTART | SA_NODEFER | SA_NOCLDSTOP;
    sigaddset(&a.sa_mask, 10);
    EQ(sigaction(s, &a, 0), 0);
    EQ(sigaction(s, 0, &b), 0);
    EQ((long)b.sa_handler, (long)nothing);
    EQ(b.sa_flags & ~0x04000000, a.sa_flags);
    EQ(sigismember(&b.sa_mask, 10), 1);
  }
  ERR(sigaction(SIGKILL, &a, 0), EINVAL);
  ERR(sigaction(SIGSTOP, &a, 0), EINVAL);
  ERR(syscall(SYS_rt_sigaction, 65, 0, 0, 8), EINVAL);
  ERR(syscall(SYS_rt_sigaction, 10, 0, 0, 4), EINVAL);
  ERR(syscall(SYS_rt_sigaction, 10, (void*)-1, 0, 8), EFAULT);
  EQ(syscall(SYS_rt_sigaction, 9, 0, &b, 8), 0);
}
T(sigaction_flags_unknown) {
  unsigned long wanted[4] = {(long)nothing, ~0ul, 0, 0}, got[4];
  EQ(syscall(SYS_rt_sigaction, SIGUSR1, wanted, 0, 8), 0);
  EQ(syscall(SYS_rt_sigaction, SIGUSR1, 0, got, 8), 0);
  EQ(got[1], 0xdc000807);
}
T(sigprocmask_err) {
  sigset_t m;
  ERR(syscall(SYS_rt_sigprocmask, 77, &m, 0, 8), EINVAL);
  ERR(syscall(SYS_rt_sigprocmask, 0, (void*)-1, 0, 8), EFAULT);
  ERR(syscall(SYS_rt_sigprocmask, 0, &m, 0, 7), EINVAL);
  sigfillset(&m);
  sigprocmask(SIG_SETMASK, &m, 0);
  sigprocmask(0, 0, &m);
  EQ(sigismember(&m, SIGKILL), 0);
  EQ(sigismember(&m, SIGSTOP), 0);
}
T(exec_signals) {
  signal(SIGUSR1, SIG_IGN);
  on(SIGUSR2, 0);
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGHUP);
  sigprocmask(SIG_BLOCK, &m, 0);
  pid_t p = fork();
  if (!p) {
    execlp("/usr/bin/grep", "grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status", NULL);
  }
  child_ok(p);
}
T(pidfd_signal) {
  pid_t p = fork();
  if (!p) {
    pause();
  }
  int f = syscall(SYS_pidfd_open, p, 0);
  CHECK(f >= 0);
  EQ(syscall(SYS_pidfd_send_signal, f, SIGTERM, 0, 0), 0);
  struct pollfd q = {f, POLLIN};
  EQ(poll(&q, 1, 3000), 1);
  siginfo_t i;
  EQ(waitid(P_PIDFD, f, &i, WEXITED), 0);
  EQ(i.si_status, SIGTERM);
}
T(sigqueue_info_from_child) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &m, 0);
  pid_t me = getpid(), p = fork();
  if (!p) {
    union sigval v = {.sival_ptr = (void*)0x123456789};
    sigqueue(me, SIGRTMIN, v);
    _exit(0);
  }
  siginfo_t i;
  EQ(sigwaitinfo(&m, &i), SIGRTMIN);
  EQ(i.si_pid, p);
  EQ((long)i.si_value.sival_ptr, 0x123456789);
  child_ok(p);
}
T(signal_storm) {
  on(SIGUSR1, SA_RESTART);
  pid_t me = getpid(), p = fork();
  if (!p) {
    for (int i = 0; i < 2000; i++)
      kill(me, SIGUSR1);
    _exit(0);
  }
  int s;
  while (waitpid(p, &s, 0) < 0)
    ;
  EQ(s, 0);
  CHECK(handled[SIGUSR1] > 0);
}
T(sigreturn_fp) {
  void h(int s) {
    double x = 1.5;
    for (int i = 0; i < 100; i++)
      x = x * 1.1 + s;
    sink = x;
  }
  signal(SIGALRM, h);
  struct itimerval t = {{0, 5000}, {0, 5000}};
  setitimer(ITIMER_REAL, &t, 0);
  double a = 1, c = 0;
  for (long i = 0; i < 20000000; i++) {
    a = a * 1.0000001;
    c += 1;
  }
  memset(&t, 0, sizeof t);
  setitimer(ITIMER_REAL, &t, 0);
  double b = 1;
  for (long i = 0; i < 20000000; i++)
    b = b * 1.0000001;
  CHECK(a == b);
  CHECK(c == 20000000);
}
T(autodisarm) {
  static char st[65536];
  static int ok;
  void h(int s) {
    stack_t o;
    sigaltstack(0, &o);
    ok = o.ss_flags & SS_DISABLE;
  }
  stack_t s = {.ss_sp = st, .ss_size = 65536, .ss_flags = 1u << 31};
  EQ(sigaltstack(&s, 0), 0);
  struct sigaction a = {.sa_handler = h, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &a, 0);
  raise(SIGUSR1);
  CHECK(ok);
  stack_t o;
  sigaltstack(0, &o);
  EQ(o.ss_flags, (int)(1u << 31));
  EQ((long)o.ss_sp, (long)st);
}
T(vfork_signals) {
  pid_t p = vfork();
  if (!p)
    _exit(3);
  EQ(reap(p), 3 << 8);
  on(SIGUSR1, 0);
  p = vfork();
  if (!p) {
    signal(SIGUSR1, SIG_DFL);
    _exit(0);
  }
  child_ok(p);
  raise(SIGUSR1);
  EQ(handled[SIGUSR1], 1);
}
T(abort_handler) {
  pid_t p = fork();
  if (!p) {
    on(SIGABRT, 0);
    abort();
  }
  EQ(WTERMSIG(reap(p)), SIGABRT);
}
T(kill_stopped) {
  pid_t p = fork();
  if (!p) {
    raise(SIGSTOP);
    _exit(0);
  }
  int s;
  waitpid(p, &s, WUNTRACED);
  kill(p, SIGKILL);
  EQ(reap(p), SIGKILL);
}
T(sigterm_spinning) {
  pid_t p = fork();
  if (!p) {
    while (1)
      sink++;
  }
  nap(100);
  kill(p, SIGTERM);
  EQ(reap(p), SIGTERM);
  int ready[2];
  char byte = 0;
  EQ(pipe(ready), 0);
  p = fork();
  if (!p) {
    on(SIGTERM, 0);
    write(ready[1], &byte, 1);
    while (!handled[SIGTERM])
      sink++;
    _exit(4);
  }
  EQ(read(ready[0], &byte, 1), 1);
  nap(100);
  kill(p, SIGTERM);
  EQ(reap(p), 4 << 8);
  close(ready[0]);
  close(ready[1]);
}
T(sigrt_default) {
  pid_t p = fork();
  if (!p)
    pause();
  kill(p, SIGRTMAX);
  EQ(reap(p), SIGRTMAX);
}
T(pdeathsig) {
  int q[2];
  pipe(q);
  pid_t p = fork();
  if (!p) {
    pid_t c = fork();
    if (!c) {
      on(SIGUSR1, 0);
      prctl(PR_SET_PDEATHSIG, SIGUSR1);
      write(q[1], "r", 1);
      while (!handled[SIGUSR1])
        nap(1);
      write(q[1], "d", 1);
      _exit(0);
    }
    char b;
    read(q[0], &b, 1);
    _exit(0);
  }
  reap(p);
  char b;
  close(q[1]);
  EQ(read(q[0], &b, 1), 1);
  EQ(b, 'd');
}

// Two threads send signals as fast as their handlers ask for the next; the receiver must lose none,
// and its mask must be what it was.
static sem_t storm_next[2];
static volatile int storm_on;
static void storm_handler(int s) {
  sem_post(&storm_next[s == SIGUSR2]);
}
static void* storm_sender(void* which) {
  const int signal = which ? SIGUSR2 : SIGUSR1;
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &both, 0);
  while (storm_on) {
    sem_wait(&storm_next[which != 0]);
    kill(getpid(), signal);
  }
  return 0;
}
T(storm_of_two) {
  struct sigaction a = {.sa_handler = storm_handler};
  sigaction(SIGUSR1, &a, 0);
  sigaction(SIGUSR2, &a, 0);
  pthread_t senders[2];
  storm_on = 1;
  for (int i = 0; i < 2; i++) {
    sem_init(&storm_next[i], 0, 1);
    pthread_create(&senders[i], 0, storm_sender, i ? (void*)1 : 0);
  }
  const long start = ms();
  while (ms() - start < 700)
    sink++;
  storm_on = 0;
  for (int i = 0; i < 2; i++)
    pthread_join(senders[i], 0);
  sigset_t now;
  pthread_sigmask(0, 0, &now);
  EQ(sigismember(&now, SIGUSR1), 0);
  EQ(sigismember(&now, SIGUSR2), 0);
}
static int race_round, race_set, race_taken;
static void on_race(int signal) {
  ++race_taken;
}
static void set_at_once(int round, void (*handler)(int)) {
  __atomic_add_fetch(&race_round, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&race_round, __ATOMIC_SEQ_CST) < 2 * round + 2)
    sched_yield();
  signal(SIGUSR1, handler);
  __atomic_add_fetch(&race_set, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&race_set, __ATOMIC_SEQ_CST) < 2 * round + 2)
    sched_yield();
}
static void* sets_ignored(void* rounds) {
  for (int round = 0; round < *(int*)rounds; ++round)
    set_at_once(round, SIG_IGN);
  return 0;
}
// Whichever of two threads sets an action last: what it reads as is what a signal does.
T(action_set_by_two) {
  int rounds = 1500;
  pthread_t thread;
  EQ(pthread_create(&thread, 0, sets_ignored, &rounds), 0);
  for (int round = 0; round < rounds; ++round) {
    set_at_once(round, on_race);
    struct sigaction now;
    EQ(sigaction(SIGUSR1, 0, &now), 0);
    race_taken = 0;
    EQ(raise(SIGUSR1), 0);
    EQ(race_taken, now.sa_handler == on_race);
  }
  EQ(pthread_join(thread, 0), 0);
}
