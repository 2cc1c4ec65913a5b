// Waiting for many things: poll, ppoll, select, pselect, epoll level- and edge-triggered over
// pipes, with timeouts, while children write.
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>

#include "rounds.h"

enum { kPipes = 8, kBytes = 50 };

static uint64_t milliseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void start(int (*ends)[2], pid_t* children) {
  for (int i = 0; i < kPipes; i++) {
    CHECK_EQ(pipe2(ends[i], O_NONBLOCK | O_CLOEXEC), 0);
    children[i] = fork();
    CHECK(children[i] >= 0);
    if (children[i] == 0) {
      for (int b = 0; b < kBytes; b++) {
        char byte = (char)('A' + i);
        CHECK_EQ(write(ends[i][1], &byte, 1), 1);
        if (b % 10 == 0) {
          struct timespec nap = {0, 1000000};
          nanosleep(&nap, NULL);
        }
      }
      _exit(0);
    }
    close(ends[i][1]);
  }
}

// Takes what is there; 1 at end of file.
static int drain(int fd, int index, int* count) {
  char buffer[16];
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got == 0) {
      return 1;
    }
    if (got < 0) {
      CHECK_EQ(errno, EAGAIN);
      return 0;
    }
    for (ssize_t i = 0; i < got; i++) {
      CHECK_EQ(buffer[i], 'A' + index);
    }
    *count += (int)got;
  }
}

static void finish(int (*ends)[2], pid_t* children, int* counts) {
  for (int i = 0; i < kPipes; i++) {
    int status;
    CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
    CHECK_EQ(status, 0);
    CHECK_EQ(counts[i], kBytes);
    close(ends[i][0]);
  }
}

static void with_poll(int use_ppoll) {
  int ends[kPipes][2], counts[kPipes] = {0}, open_count = kPipes;
  pid_t children[kPipes];
  start(ends, children);
  struct pollfd fds[kPipes];
  for (int i = 0; i < kPipes; i++) {
    fds[i] = (struct pollfd){ends[i][0], POLLIN, 0};
  }
  while (open_count > 0) {
    struct timespec limit = {10, 0};
    int ready = use_ppoll ? ppoll(fds, kPipes, &limit, NULL) : poll(fds, kPipes, 10000);
    CHECK(ready > 0);
    for (int i = 0; i < kPipes; i++) {
      if (fds[i].revents && drain(fds[i].fd, i, &counts[i])) {
        fds[i].fd = -1;
        open_count--;
      }
    }
  }
  finish(ends, children, counts);
}

static void with_select(int use_pselect) {
  int ends[kPipes][2], counts[kPipes] = {0}, done[kPipes] = {0}, open_count = kPipes;
  pid_t children[kPipes];
  sigset_t mask;
  sigemptyset(&mask);
  start(ends, children);
  while (open_count > 0) {
    fd_set set;
    FD_ZERO(&set);
    int highest = 0;
    for (int i = 0; i < kPipes; i++) {
      if (!done[i]) {
        FD_SET(ends[i][0], &set);
        highest = ends[i][0] > highest ? ends[i][0] : highest;
      }
    }
    struct timeval limit = {10, 0};
    struct timespec limit_ns = {10, 0};
    int ready = use_pselect ? pselect(highest + 1, &set, NULL, NULL, &limit_ns, &mask)
                            : select(highest + 1, &set, NULL, NULL, &limit);
    CHECK(ready > 0);
    CHECK(use_pselect || limit.tv_sec < 10 || limit.tv_usec == 0);
    for (int i = 0; i < kPipes; i++) {
      if (!done[i] && FD_ISSET(ends[i][0], &set) && drain(ends[i][0], i, &counts[i])) {
        done[i] = 1;
        open_count--;
      }
    }
  }
  finish(ends, children, counts);
}

static void with_epoll(uint32_t flags) {
  int ends[kPipes][2], counts[kPipes] = {0}, open_count = kPipes;
  pid_t children[kPipes];
  start(ends, children);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  CHECK(epoll >= 0);
  for (int i = 0; i < kPipes; i++) {
    struct epoll_event event = {EPOLLIN | flags, {.u64 = 0xabcdef0000000000u + (uint64_t)i}};
    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[i][0], &event), 0);
  }
  while (open_count > 0) {
    struct epoll_event events[3];
    int ready = epoll_wait(epoll, events, 3, 10000);
    CHECK(ready > 0);
    for (int e = 0; e < ready; e++) {
      CHECK_EQ(events[e].data.u64 >> 8, 0xabcdef00000000u);
      int i = (int)(events[e].data.u64 & 0xff);
      if (drain(ends[i][0], i, &counts[i])) {
        CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[i][0], NULL), 0);
        open_count--;
      }
    }
  }
  close(epoll);
  finish(ends, children, counts);
}

static void one_round(long number) {
  (void)number;
  with_poll(0);
  with_poll(1);
  with_select(0);
  with_select(1);
  with_epoll(0);
  with_epoll(EPOLLET);
  uint64_t before = milliseconds();
  CHECK_EQ(poll(NULL, 0, 15), 0);
  CHECK(milliseconds() - before >= 14);
  CHECK(poll((struct pollfd[]){{999, POLLIN, 0}}, 1, 1000) == 1);
}

int main(void) {
  run_rounds(one_round);
  puts("polling: every byte seen");
  return 0;
}
