// File locks: flock, record locks and open-file-description locks between processes; who holds one,
// waiting for one, losing one by close.
#include <sys/file.h>
#include <sys/wait.h>

#include "rounds.h"

static struct flock region(short type, off_t start, off_t length) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return lock;
}

static int in_child(int (*function)(int), int argument) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    _exit(function(argument));
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int sees_parent_lock(int fd) {
  struct flock lock = region(F_WRLCK, 0, 0);
  CHECK_EQ(fcntl(fd, F_GETLK, &lock), 0);
  CHECK_EQ(lock.l_type, F_WRLCK);
  CHECK_EQ(lock.l_start, 10);
  CHECK_EQ(lock.l_len, 20);
  CHECK_EQ(lock.l_pid, getppid());
  lock = region(F_WRLCK, 15, 1);
  CHECK(fcntl(fd, F_SETLK, &lock) == -1 && (errno == EAGAIN || errno == EACCES));
  lock = region(F_RDLCK, 30, 5);
  CHECK_EQ(fcntl(fd, F_SETLK, &lock), 0);
  return 3;
}

static int flock_is_busy(int unused) {
  (void)unused;
  int fd = open("lockfile", O_RDWR);
  CHECK(fd >= 0);
  CHECK(flock(fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
  CHECK_EQ(flock(fd, LOCK_SH | LOCK_NB) == -1, 1);
  return 4;
}

static void waits_for_turn(int fd) {
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  struct flock lock = region(F_WRLCK, 100, 1);
  CHECK_EQ(fcntl(fd, F_SETLK, &lock), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK_EQ(write(ends[1], "w", 1), 1);
    struct flock mine = region(F_WRLCK, 100, 1);
    CHECK_EQ(fcntl(fd, F_SETLKW, &mine), 0);  // waits for the parent
    char turn;
    CHECK_EQ(pread(fd, &turn, 1, 200), 1);
    _exit(turn == 'P' ? 0 : 1);
  }
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 1);
  CHECK_EQ(pwrite(fd, "P", 1, 200), 1);
  lock = region(F_UNLCK, 100, 1);
  CHECK_EQ(fcntl(fd, F_SETLK, &lock), 0);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  close(ends[0]);
  close(ends[1]);
}

static void one_round(long number) {
  (void)number;
  int fd = open("lockfile", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  struct flock lock = region(F_WRLCK, 10, 20);
  CHECK_EQ(fcntl(fd, F_SETLK, &lock), 0);
  CHECK_EQ(in_child(sees_parent_lock, fd), 3);
  waits_for_turn(fd);
  CHECK_EQ(flock(fd, LOCK_EX), 0);
  CHECK_EQ(in_child(flock_is_busy, 0), 4);
  CHECK_EQ(flock(fd, LOCK_UN), 0);
  struct flock description = region(F_WRLCK, 50, 5);
  CHECK_EQ(fcntl(fd, F_OFD_SETLK, &description), 0);
  int second = open("lockfile", O_RDWR);
  CHECK(second >= 0);
  description = region(F_WRLCK, 50, 5);
  CHECK(fcntl(second, F_OFD_SETLK, &description) == -1 && errno == EAGAIN);
  close(second);  // and with it, by POSIX, every record lock of this process
  lock = region(F_WRLCK, 10, 20);
  CHECK_EQ(fcntl(fd, F_SETLK, &lock), 0);
  close(fd);
}

int main(void) {
  run_rounds(one_round);
  puts("locks: held and waited for");
  return 0;
}
