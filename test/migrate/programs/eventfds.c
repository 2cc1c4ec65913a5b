// eventfd, timerfd and signalfd: values, semaphore mode, expirations, siginfo read from a
// descriptor.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include "rounds.h"

static void events(void) {
  int fd = eventfd(5, EFD_CLOEXEC), semaphore = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
  CHECK(fd >= 0 && semaphore >= 0);
  uint64_t value = 0;
  CHECK_EQ(read(fd, &value, 8), 8);
  CHECK_EQ(value, 5);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    uint64_t add = 0x1122334455;
    CHECK_EQ(write(fd, &add, 8), 8);
    add = 3;
    CHECK_EQ(write(semaphore, &add, 8), 8);
    _exit(0);
  }
  CHECK_EQ(read(fd, &value, 8), 8);  // blocks until the child has written
  CHECK_EQ(value, 0x1122334455);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(read(semaphore, &value, 8), 8);
    CHECK_EQ(value, 1);
  }
  CHECK(read(semaphore, &value, 8) == -1 && errno == EAGAIN);
  CHECK(read(fd, &value, 4) == -1 && errno == EINVAL);
  close(fd);
  close(semaphore);
}

static void timers(void) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  CHECK(fd >= 0);
  struct itimerspec every = {{0, 2000000}, {0, 3000000}}, left;
  CHECK_EQ(timerfd_settime(fd, 0, &every, NULL), 0);
  uint64_t total = 0, count;
  while (total < 5) {
    struct pollfd ready = {fd, POLLIN, 0};
    CHECK_EQ(poll(&ready, 1, 10000), 1);
    CHECK_EQ(read(fd, &count, 8), 8);
    CHECK(count >= 1);
    total += count;
  }
  CHECK_EQ(timerfd_gettime(fd, &left), 0);
  CHECK_EQ(left.it_interval.tv_nsec, 2000000);
  CHECK(left.it_value.tv_nsec <= 2000000);
  struct timespec now;
  CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
  struct itimerspec absolute = {{0, 0}, {now.tv_sec, now.tv_nsec}};  // due already
  CHECK_EQ(timerfd_settime(fd, TFD_TIMER_ABSTIME, &absolute, NULL), 0);
  CHECK_EQ(read(fd, &count, 8), 8);
  CHECK_EQ(count, 1);
  close(fd);
}

static void signals(void) {
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGCHLD);
  CHECK_EQ(sigprocmask(SIG_BLOCK, &set, &before), 0);
  int fd = signalfd(-1, &set, SFD_CLOEXEC);
  CHECK(fd >= 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    union sigval value = {.sival_int = 4242};
    CHECK_EQ(sigqueue(getppid(), SIGUSR1, value), 0);
    _exit(9);
  }
  int saw_usr1 = 0, saw_child = 0;
  while (!saw_usr1 || !saw_child) {
    struct signalfd_siginfo info;
    CHECK_EQ(read(fd, &info, sizeof(info)), sizeof(info));
    CHECK_EQ(info.ssi_pid, child);
    if (info.ssi_signo == SIGUSR1) {
      CHECK_EQ(info.ssi_int, 4242);
      saw_usr1 = 1;
    } else {
      CHECK_EQ(info.ssi_signo, SIGCHLD);
      CHECK_EQ(info.ssi_status, 9);
      CHECK_EQ(info.ssi_code, CLD_EXITED);
      saw_child = 1;
    }
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  close(fd);
  CHECK_EQ(sigprocmask(SIG_SETMASK, &before, NULL), 0);
}

static void one_round(long number) {
  (void)number;
  events();
  timers();
  signals();
}

int main(void) {
  run_rounds(one_round);
  puts("eventfds: all values as written");
  return 0;
}
