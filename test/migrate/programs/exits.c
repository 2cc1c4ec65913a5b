// Every way to end: children exit with each status, die of signals, dump or stop and go on, and the
// parent's wait, waitid and SIGCHLD see exactly that.
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "rounds.h"

static volatile sig_atomic_t children_signalled;
static void on_child(int s) {
  (void)s, children_signalled++;
}

static pid_t child_that(void (*what)(int), int argument) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    signal(SIGCHLD, SIG_DFL);
    what(argument);
    _exit(99);
  }
  return child;
}

static void exits(int status) {
  _exit(status);
}
static void raises(int number) {
  signal(number, SIG_DFL);
  raise(number);
}
static void segfaults(int unused) {
  (void)unused;
  char* page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *(volatile char*)page = 1;
}
static void divides(int unused) {
  (void)unused;
  volatile int zero = 0, one = 1;
  one /= zero;
}
static void aborts(int unused) {
  (void)unused;
  abort();
}
static void illegal(int unused) {
  (void)unused;
  __builtin_trap();
}
static void sleeps(int unused) {
  (void)unused;
  for (;;) {
    pause();
  }
}

static int status_of(pid_t child) {
  siginfo_t info;
  memset(&info, 0, sizeof(info));
  int result;
  while ((result = waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT)) < 0 && errno == EINTR) {
  }
  CHECK_EQ(result, 0);
  CHECK_EQ(info.si_pid, child);
  int status;
  struct rusage usage;
  pid_t got;
  while ((got = wait4(child, &status, 0, &usage)) < 0 && errno == EINTR) {
  }
  CHECK_EQ(got, child);
  if (WIFEXITED(status)) {
    CHECK_EQ(info.si_code, CLD_EXITED);
    CHECK_EQ(info.si_status, WEXITSTATUS(status));
    return WEXITSTATUS(status);
  }
  CHECK(info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED);
  CHECK_EQ(info.si_status, WTERMSIG(status));
  return -WTERMSIG(status);
}

static void stop_and_go(void) {
  pid_t child = child_that(sleeps, 0);
  siginfo_t info;
  CHECK_EQ(kill(child, SIGSTOP), 0);
  while (waitid(P_PID, (id_t)child, &info, WSTOPPED) < 0) {
    CHECK_EQ(errno, EINTR);
  }
  CHECK_EQ(info.si_code, CLD_STOPPED);
  CHECK_EQ(info.si_status, SIGSTOP);
  CHECK_EQ(kill(child, SIGCONT), 0);
  while (waitid(P_PID, (id_t)child, &info, WCONTINUED) < 0) {
    CHECK_EQ(errno, EINTR);
  }
  CHECK_EQ(info.si_code, CLD_CONTINUED);
  CHECK_EQ(kill(child, SIGTERM), 0);
  CHECK_EQ(status_of(child), -SIGTERM);
}

static void one_round(long number) {
  static const int kSignals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGKILL, SIGUSR1,
                                 SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGSYS};
  static const int kStatuses[] = {0, 1, 2, 42, 127, 128, 200, 255};
  (void)number;
  children_signalled = 0;
  for (unsigned i = 0; i < sizeof(kStatuses) / sizeof(int); i++) {
    CHECK_EQ(status_of(child_that(exits, kStatuses[i])), kStatuses[i]);
  }
  for (unsigned i = 0; i < sizeof(kSignals) / sizeof(int); i++) {
    CHECK_EQ(status_of(child_that(raises, kSignals[i])), -kSignals[i]);
  }
  CHECK_EQ(status_of(child_that(segfaults, 0)), -SIGSEGV);
  CHECK_EQ(status_of(child_that(divides, 0)), -SIGFPE);
  CHECK_EQ(status_of(child_that(aborts, 0)), -SIGABRT);
  CHECK_EQ(status_of(child_that(illegal, 0)), -SIGILL);
  stop_and_go();
  CHECK(children_signalled >= 20);
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = on_child;
  CHECK_EQ(sigaction(SIGCHLD, &action, NULL), 0);
  run_rounds(one_round);
  puts("exits: every end seen as it was");
  return 0;
}
