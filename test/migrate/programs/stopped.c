// A child that stops itself stays stopped, wherever it is taken meanwhile, until it is continued:
// no call of it is made before that, and its parent hears of each stop, and of its end, once. A
// signal that came meanwhile is there before anything else when it goes on.
#include <signal.h>
#include <sys/wait.h>

#include "rounds.h"

static volatile sig_atomic_t told;

static void hear(int number) {
  (void)number;
  told++;
}

static void stops_twice_and_exits(int pipe_end) {
  for (char part = 'a'; part < 'c'; part++) {
    CHECK_EQ(write(pipe_end, &part, 1), 1);
    raise(SIGSTOP);
    CHECK_EQ(told, part - 'a' + 1);
  }
  _exit(7);
}

static void round_of(long number) {
  (void)number;
  int ends[2];
  CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    stops_twice_and_exits(ends[1]);
  }
  int status = 0;
  for (char part = 'a'; part < 'c'; part++) {
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    CHECK_EQ(WSTOPSIG(status), SIGSTOP);
    char seen = 0;
    CHECK_EQ(read(ends[0], &seen, 1), 1);
    CHECK_EQ(seen, part);
    for (int look = 0; look < 20; look++) {
      usleep(1000);  // time for a move, and for a child that should not run to give itself away
      CHECK_EQ(waitpid(child, &status, WUNTRACED | WNOHANG), 0);
      CHECK_EQ(read(ends[0], &seen, 1), -1);
    }
    CHECK_EQ(kill(child, SIGUSR1), 0);
    CHECK_EQ(kill(child, SIGCONT), 0);
  }
  CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 7);
  close(ends[0]);
  close(ends[1]);
}

int main(void) {
  CHECK(signal(SIGUSR1, hear) != SIG_ERR);
  run_rounds(round_of);
  puts("stopped: all rounds alike");
  return 0;
}
