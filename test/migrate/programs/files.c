// The file system as a program uses it: directories, links, renames, permissions, holes, vectors,
// sendfile, splice, copy_file_range, allocation, times, inotify, big reads and writes, paths
// relative to descriptors and to the folder.
#include <dirent.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "rounds.h"

static void write_all(int fd, const void* data, size_t size) {
  for (size_t at = 0; at < size;) {
    ssize_t put = write(fd, (const char*)data + at, size - at);
    CHECK(put > 0);
    at += (size_t)put;
  }
}

static void names(int folder) {
  for (int i = 0; i < 40; i++) {
    char name[32];
    snprintf(name, sizeof(name), "entry-%02d", i);
    int fd = openat(folder, name, O_CREAT | O_WRONLY | O_EXCL, 0640);
    CHECK(fd >= 0);
    write_all(fd, name, strlen(name));
    close(fd);
  }
  CHECK(openat(folder, "entry-00", O_CREAT | O_EXCL | O_WRONLY, 0600) == -1 && errno == EEXIST);
  CHECK_EQ(symlinkat("entry-07", folder, "link"), 0);
  CHECK_EQ(linkat(folder, "entry-08", folder, "hard", 0), 0);
  CHECK_EQ(renameat(folder, "entry-09", folder, "renamed"), 0);
  CHECK_EQ(fchmodat(folder, "entry-10", 0400, 0), 0);
  char text[64] = {0};
  CHECK_EQ(readlinkat(folder, "link", text, sizeof(text)), 8);
  struct stat info;
  CHECK_EQ(fstatat(folder, "hard", &info, 0), 0);
  CHECK_EQ(info.st_nlink, 2);
  CHECK_EQ(fstatat(folder, "link", &info, AT_SYMLINK_NOFOLLOW), 0);
  CHECK(S_ISLNK(info.st_mode));
  struct statx extended;
  CHECK_EQ(statx(folder, "entry-10", 0, STATX_BASIC_STATS, &extended), 0);
  CHECK_EQ(extended.stx_mode & 07777, 0400);
  struct timespec times[2] = {{1000000000, 5}, {1200000000, 7}};
  CHECK_EQ(utimensat(folder, "entry-11", times, 0), 0);
  CHECK_EQ(fstatat(folder, "entry-11", &info, 0), 0);
  CHECK(info.st_mtim.tv_sec == 1200000000 && info.st_mtim.tv_nsec == 7);
  DIR* list = fdopendir(dup(folder));
  CHECK(list);
  int count = 0;
  rewinddir(list);
  while (readdir(list)) {
    count++;
  }
  closedir(list);
  CHECK_EQ(count, 44);
}

static void vectors(void) {
  int fd = open("vector", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  char one[100], two[5000], three[7];
  memset(one, '1', sizeof(one));
  memset(two, '2', sizeof(two));
  memset(three, '3', sizeof(three));
  struct iovec parts[3] = {{one, sizeof(one)}, {two, sizeof(two)}, {three, sizeof(three)}};
  CHECK_EQ(writev(fd, parts, 3), 5107);
  CHECK_EQ(pwritev(fd, parts, 1, 20000), 100);
  memset(one, 0, sizeof(one));
  memset(two, 0, sizeof(two));
  CHECK_EQ(preadv(fd, parts, 3, 0), 5107);
  CHECK(one[99] == '1' && two[0] == '2' && two[4999] == '2' && three[6] == '3');
  CHECK_EQ(lseek(fd, 0, SEEK_END), 20100);
  CHECK_EQ(lseek(fd, 6000, SEEK_HOLE) >= 6000, 1);
  char byte = 1;
  CHECK_EQ(pread(fd, &byte, 1, 15000), 1);
  CHECK_EQ(byte, 0);
  CHECK_EQ(ftruncate(fd, 5107), 0);
  int copy = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(copy >= 0);
  off_t from = 100;
  CHECK_EQ(sendfile(copy, fd, &from, 5000), 5000);
  CHECK_EQ(from, 5100);
  off64_t in = 0, out = 5000;
  CHECK_EQ(copy_file_range(fd, &in, copy, &out, 100, 0), 100);
  CHECK(in == 100 && out == 5100);
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  in = 0;
  CHECK_EQ(splice(fd, &in, ends[1], NULL, 50, 0), 50);
  char text[64];
  CHECK_EQ(read(ends[0], text, sizeof(text)), 50);
  CHECK(text[49] == '1');
  close(ends[0]);
  close(ends[1]);
  CHECK_EQ(fallocate(copy, 0, 0, 9000), 0);
  struct stat info;
  CHECK_EQ(fstat(copy, &info), 0);
  CHECK_EQ(info.st_size, 9000);
  CHECK_EQ(fsync(copy), 0);
  close(copy);
  close(fd);
}

static void large(void) {
  static char block[3 << 20];
  for (size_t i = 0; i < sizeof(block); i++) {
    block[i] = (char)(mix(i) >> 5);
  }
  int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  write_all(fd, block, sizeof(block));
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  static char again[3 << 20];
  size_t at = 0;
  for (ssize_t got; (got = read(fd, again + at, sizeof(again) - at)) > 0;) {
    at += (size_t)got;
  }
  CHECK_EQ(at, sizeof(block));
  CHECK(memcmp(block, again, sizeof(block)) == 0);
  close(fd);
}

static void watched(void) {
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  CHECK(fd >= 0);
  CHECK(inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE) >= 0);
  int made = open("watched", O_CREAT | O_WRONLY, 0600);
  CHECK(made >= 0);
  close(made);
  CHECK_EQ(unlink("watched"), 0);
  char buffer[4096] __attribute__((aligned(8)));
  ssize_t got = read(fd, buffer, sizeof(buffer));
  CHECK(got > 0);
  int created = 0, deleted = 0;
  for (char* at = buffer; at < buffer + got;) {
    struct inotify_event* event = (struct inotify_event*)at;
    if (event->len && strcmp(event->name, "watched") == 0) {
      created += (event->mask & IN_CREATE) != 0;
      deleted += (event->mask & IN_DELETE) != 0;
    }
    at += sizeof(*event) + event->len;
  }
  CHECK(created == 1 && deleted == 1);
  close(fd);
}

static void remove_all(int folder) {
  DIR* list = fdopendir(dup(folder));
  CHECK(list);
  rewinddir(list);
  for (struct dirent* entry; (entry = readdir(list));) {
    if (entry->d_name[0] != '.') {
      CHECK_EQ(unlinkat(folder, entry->d_name, 0), 0);
    }
  }
  closedir(list);
}

static void one_round(long number) {
  (void)number;
  CHECK_EQ(mkdir("folder", 0755), 0);
  int folder = open("folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(folder >= 0);
  names(folder);
  remove_all(folder);
  CHECK_EQ(fchdir(folder), 0);
  char here[4096];
  CHECK(getcwd(here, sizeof(here)) && strcmp(strrchr(here, '/'), "/folder") == 0);
  CHECK_EQ(chdir(".."), 0);
  close(folder);
  CHECK_EQ(rmdir("folder"), 0);
  vectors();
  large();
  watched();
  CHECK(open("/no/such/path", O_RDONLY) == -1 && errno == ENOENT);
  CHECK(open((char*)8, O_RDONLY) == -1 && errno == EFAULT);
  char* volatile nowhere = (char*)8;
  int self = open("vector", O_RDONLY);
  CHECK(self >= 0);
  CHECK(read(self, nowhere, 1) == -1 && errno == EFAULT);
  close(self);
  struct statvfs fs;
  CHECK_EQ(statvfs(".", &fs), 0);
  CHECK_EQ(umask(027), 022);
  CHECK_EQ(umask(022), 027);
}

int main(void) {
  umask(022);
  run_rounds(one_round);
  puts("files: as written");
  return 0;
}
