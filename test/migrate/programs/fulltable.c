// All descriptors that a process may have are open, round after round, while it moves.
#include <sys/resource.h>

#include "rounds.h"

static void one_round(long number) {
  (void)number;
  errno = 0;
  CHECK_EQ(dup(1), -1);
  CHECK_EQ(errno, EMFILE);
  CHECK_EQ(close(10), 0);
  CHECK_EQ(open("file", O_RDWR | O_CREAT, 0600), 10);
  CHECK_EQ(write(10, "x", 1), 1);
}

int main(void) {
  struct rlimit limit;
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = 24;
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  while (dup(1) >= 0) {
  }
  run_rounds(one_round);
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  CHECK_EQ(limit.rlim_cur, 24);
  puts("fulltable: nothing left");
  return 0;
}
