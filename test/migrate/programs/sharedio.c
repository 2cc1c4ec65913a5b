// One file by mapping and by system calls, of one process and of two: each sees what the other way
// has done; the file grows and shrinks under the mapping; an output file is written by mapping
// only.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "rounds.h"

enum { PAGE = 4096, PAGES = 9 };
static int fd;
static char* map;
static char* view;    // by a descriptor that can only read
static char* closed;  // by one that can write, but mapped for reading
static sigjmp_buf fault;

static void on_sigbus(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  CHECK_EQ(info->si_code, BUS_ADRERR);
  siglongjmp(fault, 1);
}

static void map_then_read(long number) {
  char text[64], back[64] = {0};
  int length = snprintf(text, sizeof(text), "by map %ld", number) + 1;
  memcpy(map + 2 * PAGE + 100, text, length);
  CHECK_EQ(pread(fd, back, length, 2 * PAGE + 100), length);
  CHECK(strcmp(text, back) == 0);
  map[3 * PAGE] ^= 1;
  CHECK_EQ(lseek(fd, 3 * PAGE, SEEK_SET), 3 * PAGE);
  struct iovec parts[2] = {{back, 1}, {back + 1, 1}};
  CHECK_EQ(readv(fd, parts, 2), 2);
  CHECK_EQ(back[0], map[3 * PAGE]);
}

static void write_then_map(long number) {
  char text[64];
  int length = snprintf(text, sizeof(text), "by write %ld", number) + 1;
  map[4 * PAGE + 1] = 'm';
  CHECK_EQ(pwrite(fd, text, length, 4 * PAGE + 7), length);
  CHECK(strcmp(map + 4 * PAGE + 7, text) == 0);
  CHECK_EQ(map[4 * PAGE + 1], 'm');
  CHECK_EQ(lseek(fd, 5 * PAGE - 3, SEEK_SET), 5 * PAGE - 3);  // across two pages
  CHECK_EQ(write(fd, text, length), length);
  CHECK(strcmp(map + 5 * PAGE - 3, text) == 0);
}

static void by_another_process(long number) {
  *(long*)(map + 6 * PAGE) = number;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    long seen = -1;
    int other = open("file", O_RDWR);
    CHECK(other >= 0);
    CHECK_EQ(pread(other, &seen, sizeof(seen), 6 * PAGE), sizeof(seen));
    CHECK_EQ(seen, number);
    seen = number + 1;
    CHECK_EQ(pwrite(other, &seen, sizeof(seen), 6 * PAGE + 8), sizeof(seen));
    *(long*)(map + 6 * PAGE + 16) = number + 2;
    char* mine = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, other, 6 * PAGE);
    CHECK(mine != MAP_FAILED);
    CHECK_EQ(((long*)mine)[2], number + 2);
    _exit(0);
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK_EQ(((long*)(map + 6 * PAGE))[1], number + 1);
  CHECK_EQ(((long*)(map + 6 * PAGE))[2], number + 2);
}

static void grows_and_shrinks(void) {
  CHECK_EQ(ftruncate(fd, 7 * PAGE + 10), 0);
  map[7 * PAGE + 9] = 'e';
  if (sigsetjmp(fault, 1) == 0) {
    map[8 * PAGE] = 'x';
    CHECK(!"beyond the end");
  }
  CHECK_EQ(ftruncate(fd, PAGES * PAGE), 0);
  CHECK_EQ(map[7 * PAGE + 9], 'e');
  CHECK_EQ(map[8 * PAGE], 0);
  map[8 * PAGE] = 'y';
  struct stat about;
  CHECK_EQ(fstat(fd, &about), 0);
  CHECK_EQ(about.st_size, PAGES * PAGE);
  CHECK_EQ(ftruncate(fd, 8 * PAGE), 0);
  CHECK_EQ(pwrite(fd, "end", 3, PAGES * PAGE - 3), 3);
  CHECK_EQ(map[8 * PAGE], 0);
  CHECK(memcmp(map + PAGES * PAGE - 3, "end", 3) == 0);
}

static void copied_on(long number) {
  snprintf(map, 64, "copied %ld", number);
  int out = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(out >= 0);
  off_t from = 0;
  CHECK_EQ(sendfile(out, fd, &from, 2 * PAGE), 2 * PAGE);
  char back[64] = {0};
  CHECK_EQ(pread(out, back, 20, 0), 20);
  CHECK(strncmp(map, back, 20) == 0);
  off_t source = 0, target = PAGE;
  CHECK_EQ(copy_file_range(out, &source, fd, &target, 20, 0), 20);
  CHECK(strncmp(map + PAGE, back, 20) == 0);
  CHECK_EQ(close(out), 0);
}

// Written by mapping only, and unmapped: whoever opens it then finds it complete.
static void output_file(void) {
  int out = open("output", O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(out >= 0);
  size_t size = 100 * PAGE + 123;
  CHECK_EQ(ftruncate(out, size), 0);
  uint64_t* words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, out, 0);
  CHECK(words != MAP_FAILED);
  CHECK_EQ(close(out), 0);
  for (size_t i = 0; i < size / 8; ++i) {
    words[i] = mix(i);
  }
  CHECK_EQ(msync(words, size, MS_SYNC), 0);
  words[0] = 42;
  CHECK_EQ(munmap(words, size), 0);
}

static void views_follow(long number) {
  map[2 * PAGE - 1] = (char)number;
  CHECK_EQ(view[2 * PAGE - 1], (char)number);
  CHECK_EQ(closed[2 * PAGE - 1], (char)number);
  errno = 0;
  CHECK_EQ(mprotect(view, PAGE, PROT_READ | PROT_WRITE), -1);
  CHECK_EQ(errno, EACCES);
  CHECK_EQ(mprotect(closed + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
  closed[2 * PAGE - 2] = (char)(number + 1);
  CHECK_EQ(map[2 * PAGE - 2], (char)(number + 1));
  CHECK_EQ(mprotect(closed + PAGE, PAGE, PROT_READ), 0);
}

static void one_round(long number) {
  views_follow(number);
  map_then_read(number);
  write_then_map(number);
  by_another_process(number);
  grows_and_shrinks();
  copied_on(number);
  output_file();
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
  CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
  fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  CHECK_EQ(ftruncate(fd, PAGES * PAGE), 0);
  map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  const int reader = open("file", O_RDONLY);
  CHECK(reader >= 0);
  closed = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(closed != MAP_FAILED);
  view = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, reader, 0);
  CHECK(view != MAP_FAILED && view < map);
  CHECK_EQ(close(reader), 0);
  run_rounds(one_round);
  CHECK_EQ(unlink("copy"), 0);
  memset(map, 's', PAGES * PAGE);
  puts("sharedio: both ways agree");
  return 0;
}
