// `relwaits NAME` waits for two seconds in that call, with a relative timeout or one of its
// socket's own, and says how many milliseconds it took; `relwaits` lists the names.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { kSeconds = 2 };

static struct timespec length = {kSeconds, 0};
static struct timeval length_us = {kSeconds, 0};
static int ends[2], word;
static char byte;

static int timed_pair(void) {
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 ||
      setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &length_us, sizeof(length_us)) != 0) {
    return -1;
  }
  return ends[0];
}

static long by_epoll(void) {
  struct epoll_event event;
  return epoll_wait(epoll_create1(0), &event, 1, kSeconds * 1000);
}
static long by_sigtimedwait(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  return sigtimedwait(&set, NULL, &length);
}
static long by_semtimedop(void) {
  const int id = semget(IPC_PRIVATE, 1, 0600);
  struct sembuf take = {0, -1, 0};
  const long result = semtimedop(id, &take, 1, &length);
  semctl(id, 0, IPC_RMID);
  return result;
}
static long by_poll(void) {
  return poll(NULL, 0, kSeconds * 1000);
}
static long by_ppoll(void) {
  return ppoll(NULL, 0, &length, NULL);
}
static long by_select(void) {
  return select(0, NULL, NULL, NULL, &length_us);
}
static long by_pselect(void) {
  return pselect(0, NULL, NULL, NULL, &length, NULL);
}
static long by_futex(void) {
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &length, NULL, 0);
}
static long by_nanosleep(void) {
  return syscall(SYS_nanosleep, &length, NULL);
}
static long by_nanosleep_with_rest(void) {
  struct timespec rest;
  return syscall(SYS_nanosleep, &length, &rest);
}
static long by_clock_nanosleep(void) {
  return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &length, NULL);
}
static long by_socket_recv(void) {
  return recv(timed_pair(), &byte, 1, 0);
}
static long by_socket_read(void) {
  return read(timed_pair(), &byte, 1);
}
static long by_socket_accept(void) {
  const struct sockaddr_in any = {.sin_family = AF_INET};
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(fd, (const struct sockaddr*)&any, sizeof(any)) != 0 || listen(fd, 1) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &length_us, sizeof(length_us)) != 0) {
    return 1;
  }
  return accept(fd, NULL, NULL);
}

static const struct {
  const char* name;
  long (*wait)(void);
} kWaits[] = {{"epoll", by_epoll},
              {"sigtimedwait", by_sigtimedwait},
              {"semtimedop", by_semtimedop},
              {"poll", by_poll},
              {"ppoll", by_ppoll},
              {"select", by_select},
              {"pselect", by_pselect},
              {"futex", by_futex},
              {"nanosleep", by_nanosleep},
              {"nanosleep_with_rest", by_nanosleep_with_rest},
              {"clock_nanosleep", by_clock_nanosleep},
              {"socket_recv", by_socket_recv},
              {"socket_read", by_socket_read},
              {"socket_accept", by_socket_accept}};

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(int count, char** arguments) {
  for (size_t i = 0; i < sizeof(kWaits) / sizeof(kWaits[0]); ++i) {
    if (count < 2) {
      puts(kWaits[i].name);
    } else if (strcmp(arguments[1], kWaits[i].name) == 0) {
      const double begun = now();
      const long result = kWaits[i].wait();
      if (result > 0 || (result < 0 && errno != EAGAIN && errno != ETIMEDOUT)) {
        perror(kWaits[i].name);
        return 1;
      }
      printf("%.0f\n", now() - begun);
      return 0;
    }
  }
  return count < 2 ? 0 : 2;
}
