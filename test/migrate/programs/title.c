// What a program writes over its arguments is its title for everybody else at once: a child that
// may be on another node reads it after each change.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "rounds.h"

extern char** environ;

static char* title;
static size_t longest;
static int channel[2];

// Up to the end of the arguments, or beyond them into the environment.
static void set_title(const char* text) {
  const size_t length = strlen(text);
  CHECK(length < longest);
  memset(title, 0, longest);
  memcpy(title, text, length);
}

static int child(pid_t parent) {
  char name[64], wanted[512], seen[512];
  sprintf(name, "/proc/%d/cmdline", parent);
  ssize_t size;
  while ((size = recv(channel[1], wanted, sizeof(wanted), 0)) > 0) {
    const int fd = open(name, O_RDONLY);
    CHECK(fd >= 0);
    const ssize_t got = read(fd, seen, sizeof(seen));
    CHECK(got >= size);
    close(fd);
    if (memcmp(seen, wanted, size) != 0) {
      fprintf(stderr, "wanted \"%.*s\", it is \"%.*s\"\n", (int)size, wanted, (int)got, seen);
      return 1;
    }
    CHECK_EQ(send(channel[1], "", 1, 0), 1);
  }
  return 0;
}

static void round_of(long number) {
  char text[512], answer;
  const size_t most = longest < sizeof(text) ? longest : sizeof(text);
  for (int i = 0; i < 20; ++i) {
    snprintf(text, i % 5 == 0 ? most : 40, "title: %ld.%d %0300d", number, i, i);
    set_title(text);
    CHECK_EQ(send(channel[0], text, strlen(text), 0), strlen(text));
    CHECK_EQ(recv(channel[0], &answer, 1, 0), 1);
  }
}

int main(int argc, char** argv) {
  // The environment lies behind the arguments: what is used of it later is copied.
  title = argv[0];
  longest = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - title);
  for (char** entry = environ; *entry != NULL && *entry == title + longest; ++entry) {
    longest += strlen(*entry) + 1;
  }
  CHECK(longest > 200);
  clearenv();
  CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
  const pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    close(channel[0]);
    return child(parent);
  }
  close(channel[1]);
  run_rounds(round_of);
  close(channel[0]);
  int status = -1;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(status, 0);
  puts("title: seen at once");
  return 0;
}
