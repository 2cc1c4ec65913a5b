// Signals used heavily: queued real-time signals with values, SA_SIGINFO, masks, sigsuspend, an
// alternate stack, nested handlers, interval timers, siglongjmp, EINTR against SA_RESTART, faults
// with their addresses.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "rounds.h"

static volatile sig_atomic_t alarms, usr1, nested_in, nested_max, rt_count;
static volatile int rt_values[64];
static volatile pid_t rt_sender;
static char altstack[1 << 16];
static volatile int on_altstack;
static sigjmp_buf fault_jump;
static void* volatile fault_address;
static volatile int fault_code;

static void on_alarm(int s) {
  (void)s, alarms++;
}

static void on_rt(int s, siginfo_t* info, void* context) {
  (void)s, (void)context;
  if (info->si_code == SI_QUEUE && rt_count < 64) {
    rt_values[rt_count++] = info->si_value.sival_int;
    rt_sender = info->si_pid;
  }
}

static void on_usr1(int s) {
  (void)s;
  char here;
  on_altstack = &here >= altstack && &here < altstack + sizeof(altstack);
  usr1++;
}

static void on_usr2(int s) {  // lets SIGUSR1 in while it runs
  (void)s;
  nested_in++;
  raise(SIGUSR1);
  if (nested_in > nested_max) {
    nested_max = nested_in;
  }
  nested_in--;
}

static void on_fault(int s, siginfo_t* info, void* context) {
  (void)context;
  fault_address = info->si_addr;
  fault_code = info->si_code;
  siglongjmp(fault_jump, s);
}

static void install(int number, void (*handler)(int), void (*info)(int, siginfo_t*, void*),
                    int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  if (info) {
    action.sa_sigaction = info;
    flags |= SA_SIGINFO;
  } else {
    action.sa_handler = handler;
  }
  action.sa_flags = flags;
  CHECK_EQ(sigaction(number, &action, NULL), 0);
  struct sigaction old;
  CHECK_EQ(sigaction(number, NULL, &old), 0);
  CHECK_EQ(old.sa_flags & ~0x04000000, flags);
  CHECK(info ? old.sa_sigaction == info : old.sa_handler == handler);
}

static void queued(void) {
  sigset_t block, before;
  sigemptyset(&block);
  sigaddset(&block, SIGRTMIN + 1);
  sigaddset(&block, SIGCHLD);
  CHECK_EQ(sigprocmask(SIG_BLOCK, &block, &before), 0);
  rt_count = 0;
  pid_t parent = getpid();
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    for (int i = 0; i < 20; i++) {
      union sigval value = {.sival_int = 1000 + i};
      CHECK_EQ(sigqueue(parent, SIGRTMIN + 1, value), 0);
    }
    _exit(0);
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  sigset_t waiting;
  CHECK_EQ(sigpending(&waiting), 0);
  CHECK(sigismember(&waiting, SIGRTMIN + 1));
  CHECK_EQ(rt_count, 0);
  siginfo_t info;
  struct timespec limit = {5, 0};
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGRTMIN + 1);
  CHECK_EQ(sigtimedwait(&one, &info, &limit), SIGRTMIN + 1);
  CHECK_EQ(info.si_value.sival_int, 1000);
  CHECK_EQ(info.si_pid, child);
  CHECK_EQ(sigprocmask(SIG_SETMASK, &before, NULL), 0);
  CHECK_EQ(rt_count, 19);
  CHECK_EQ(rt_sender, child);
  for (int i = 0; i < 19; i++) {
    CHECK_EQ(rt_values[i], 1001 + i);
  }
}

static void suspended(void) {
  sigset_t block, before, open_mask;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  CHECK_EQ(sigprocmask(SIG_BLOCK, &block, &before), 0);
  int had = usr1;
  pid_t parent = getpid(), child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    kill(parent, SIGUSR1);
    _exit(7);
  }
  open_mask = before;
  sigdelset(&open_mask, SIGUSR1);
  while (usr1 == had) {
    CHECK(sigsuspend(&open_mask) == -1 && errno == EINTR);
  }
  CHECK_EQ(usr1, had + 1);
  CHECK(on_altstack);
  sigset_t now;
  CHECK_EQ(sigprocmask(SIG_SETMASK, NULL, &now), 0);
  CHECK(sigismember(&now, SIGUSR1));
  CHECK_EQ(sigprocmask(SIG_SETMASK, &before, NULL), 0);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(WEXITSTATUS(status), 7);
}

static void timers(void) {
  alarms = 0;
  struct itimerval every = {{0, 3000}, {0, 3000}}, off = {{0, 0}, {0, 0}};
  CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
  uint64_t x = 1;
  while (alarms < 3) {  // computing, no system calls: the signal has to come in from outside
    for (int i = 0; i < 20000; i++) {
      x = mix(x + 1);
    }
  }
  CHECK(x != 0);
  int had = alarms;
  while (alarms == had) {
    pause();
  }
  CHECK_EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
}

static void interrupted(int flags) {
  install(SIGALRM, on_alarm, NULL, flags);
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {  // a byte comes late, in any case after the alarm
    struct timespec wait = {0, 40000000};
    nanosleep(&wait, NULL);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    _exit(0);
  }
  alarms = 0;
  struct itimerval once = {{0, 0}, {0, 5000}};
  CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
  char byte;
  ssize_t got = read(ends[0], &byte, 1);
  if (alarms == 0) {  // the read was so late that the byte was there first
    CHECK_EQ(got, 1);
    CHECK_EQ(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL), 0);
  } else if (flags & SA_RESTART) {
    CHECK_EQ(got, 1);
  } else if (got < 0) {
    CHECK_EQ(errno, EINTR);
  } else {
    CHECK_EQ(got, 1);
  }
  int status;
  while (waitpid(child, &status, 0) < 0) {
    CHECK_EQ(errno, EINTR);
  }
  CHECK_EQ(status, 0);
  close(ends[0]);
  close(ends[1]);
  install(SIGALRM, on_alarm, NULL, 0);
}

static void faults(void) {
  char* page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED);
  CHECK_EQ(munmap(page + 4096, 4096), 0);
  if (sigsetjmp(fault_jump, 1) == 0) {
    *(volatile char*)(page + 100) = 1;
    CHECK(!"the write went through");
  }
  CHECK(fault_address == page + 100);
  CHECK_EQ(fault_code, SEGV_ACCERR);
  int which = sigsetjmp(fault_jump, 1);
  if (which == 0) {
    volatile int zero = 0, one = 1;
    one /= zero;
    CHECK(!"the division went through");
  }
  CHECK_EQ(which, SIGFPE);
  CHECK_EQ(fault_code, FPE_INTDIV);
  CHECK_EQ(munmap(page, 4096), 0);
}

static void one_round(long number) {
  (void)number;
  queued();
  suspended();
  timers();
  interrupted(0);
  interrupted(SA_RESTART);
  faults();
  int had = usr1;
  CHECK_EQ(raise(SIGUSR2), 0);
  CHECK_EQ(usr1, had + 1);
  CHECK_EQ(nested_max, 1);
}

int main(void) {
  stack_t stack = {.ss_sp = altstack, .ss_size = sizeof(altstack), .ss_flags = 0};
  CHECK_EQ(sigaltstack(&stack, NULL), 0);
  install(SIGRTMIN + 1, NULL, on_rt, 0);
  install(SIGUSR1, on_usr1, NULL, SA_ONSTACK | SA_RESTART);
  install(SIGUSR2, on_usr2, NULL, 0);
  install(SIGALRM, on_alarm, NULL, 0);
  install(SIGSEGV, NULL, on_fault, SA_ONSTACK);
  install(SIGFPE, NULL, on_fault, 0);
  run_rounds(one_round);
  stack_t now;
  CHECK_EQ(sigaltstack(NULL, &now), 0);
  CHECK(now.ss_sp == altstack && now.ss_size == sizeof(altstack) && now.ss_flags == 0);
  puts("signals: every one arrived as sent");
  return 0;
}
