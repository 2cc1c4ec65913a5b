// What a process can learn about itself must be what it was at home: ids, session, names,
// /proc/self, limits, environment, host name, own descriptors, own maps, command line, auxiliary
// vector.
#include <dirent.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "rounds.h"

struct facts {
  long ids[12];
  struct utsname name;
  char exe[4096], cwd[4096], comm[32], cmdline[512], tty[64];
  struct rlimit limits[RLIM_NLIMITS];
  unsigned long auxv[6];
  int descriptors, mapped_self, mapped_stack, mapped_heap, maps_page_prot, tasks;
  long status_pid, status_ppid, status_threads, stat_pid;
};
static struct facts at_first;
static char* marker_page;

static size_t slurp(const char* path, char* into, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  size_t at = 0;
  for (ssize_t got; at < size - 1 && (got = read(fd, into + at, size - 1 - at)) > 0;) {
    at += (size_t)got;
  }
  into[at] = 0;
  close(fd);
  return at;
}

static int count_entries(const char* path) {
  DIR* list = opendir(path);
  CHECK(list);
  int count = 0;
  for (struct dirent* entry; (entry = readdir(list));) {
    count += entry->d_name[0] != '.';
  }
  closedir(list);
  return count;
}

static long field_of(const char* text, const char* name) {
  const char* at = strstr(text, name);
  CHECK(at);
  return strtol(at + strlen(name), NULL, 10);
}

static void read_maps(struct facts* f) {
  static char text[1 << 18];
  slurp("/proc/self/maps", text, sizeof(text));
  uintptr_t code = (uintptr_t)&read_maps, stack = (uintptr_t)__builtin_frame_address(0),
            page = (uintptr_t)marker_page;
  for (char* line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    unsigned long start, end;
    char prot[8];
    CHECK_EQ(sscanf(line, "%lx-%lx %7s", &start, &end, prot), 3);
    CHECK(!strstr(line, "tess"));
    f->mapped_self += code >= start && code < end && strstr(line, f->exe) && prot[2] == 'x';
    f->mapped_stack += stack >= start && stack < end && strstr(line, "[stack]");
    f->mapped_heap += strstr(line, "[heap]") != NULL;
    if (page >= start && page < end) {
      f->maps_page_prot = prot[0] == 'r' && prot[1] == '-' && prot[2] == '-';
    }
  }
}

static void learn(struct facts* f) {
  memset(f, 0, sizeof(*f));
  long ids[12] = {getpid(),
                  getppid(),
                  syscall(SYS_gettid),
                  getuid(),
                  geteuid(),
                  getgid(),
                  getegid(),
                  getpgrp(),
                  getsid(0),
                  getpriority(PRIO_PROCESS, 0),
                  umask(022),
                  prctl(PR_GET_DUMPABLE)};
  memcpy(f->ids, ids, sizeof(ids));
  CHECK_EQ(uname(&f->name), 0);
  CHECK(readlink("/proc/self/exe", f->exe, sizeof(f->exe) - 1) > 0);
  CHECK(getcwd(f->cwd, sizeof(f->cwd)));
  slurp("/proc/self/comm", f->comm, sizeof(f->comm));
  slurp("/proc/self/cmdline", f->cmdline, sizeof(f->cmdline));
  static char text[8192];
  slurp("/proc/self/status", text, sizeof(text));
  f->status_pid = field_of(text, "\nPid:");
  f->status_ppid = field_of(text, "\nPPid:");
  f->status_threads = field_of(text, "\nThreads:");
  slurp("/proc/self/stat", text, sizeof(text));
  f->stat_pid = strtol(text, NULL, 10);
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/stat", getpid());
  char again[8192];
  slurp(path, again, sizeof(again));
  CHECK_EQ(strtol(again, NULL, 10), getpid());
  for (int i = 0; i < RLIM_NLIMITS; i++) {
    CHECK_EQ(getrlimit(i, &f->limits[i]), 0);
  }
  unsigned long kinds[6] = {AT_PAGESZ, AT_UID, AT_ENTRY, AT_PHDR, AT_RANDOM, AT_HWCAP};
  for (int i = 0; i < 6; i++) {
    f->auxv[i] = getauxval(kinds[i]);
  }
  f->descriptors = count_entries("/proc/self/fd");
  f->tasks = count_entries("/proc/self/task");
  read_maps(f);
}

static void one_round(long number) {
  struct facts now;
  learn(&now);
  CHECK_EQ(now.status_pid, getpid());
  CHECK_EQ(now.stat_pid, getpid());
  CHECK_EQ(now.status_ppid, getppid());
  CHECK_EQ(now.status_threads, 1);
  CHECK_EQ(now.tasks, 1);
  CHECK_EQ(now.mapped_self, 1);
  CHECK_EQ(now.mapped_stack, 1);
  CHECK_EQ(now.maps_page_prot, 1);
  if (number == 0) {
    at_first = now;
  }
  CHECK(memcmp(at_first.ids, now.ids, sizeof(now.ids)) == 0);
  CHECK(memcmp(&at_first.name, &now.name, sizeof(now.name)) == 0);
  CHECK(strcmp(at_first.exe, now.exe) == 0);
  CHECK(strcmp(at_first.cwd, now.cwd) == 0);
  CHECK(strcmp(at_first.comm, now.comm) == 0);
  CHECK(strcmp(at_first.cmdline, now.cmdline) == 0);
  CHECK(memcmp(at_first.limits, now.limits, sizeof(now.limits)) == 0);
  CHECK(memcmp(at_first.auxv, now.auxv, sizeof(now.auxv)) == 0);
  CHECK_EQ(at_first.descriptors, now.descriptors);
  CHECK_EQ(at_first.mapped_heap, now.mapped_heap);
  CHECK(strcmp(getenv("FROM_HOME"), "kept") == 0);
  struct stat info;
  CHECK_EQ(stat("/proc/self/cwd/.", &info), 0);
  int fd = open("/proc/self/exe", O_RDONLY);
  CHECK(fd >= 0);
  char magic[4];
  CHECK_EQ(read(fd, magic, 4), 4);
  CHECK(memcmp(magic, "\177ELF", 4) == 0);
  close(fd);
}

int main(void) {
  CHECK_EQ(prctl(PR_SET_NAME, "own-name"), 0);
  marker_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(marker_page != MAP_FAILED);
  CHECK(malloc(1000));
  run_rounds(one_round);
  printf("procself: %s", at_first.comm);
  puts("procself: the same all the time");
  return 0;
}
