// What a process reads about itself and its children in /proc.
#include "check.h"
static long field(const char* t, const char* n) {
  const char* a = strstr(t, n);
  if (!a)
    FAIL("no %s", n);
  return atol(a + strlen(n));
}
T(maps_clean) {
  char* t = slurp("/proc/self/maps");
  CHECK(!strstr(t, "memfd"));
  CHECK(!strstr(t, "tess"));
  CHECK(strstr(t, "[stack]"));
  CHECK(strstr(t, "[vdso]"));
  CHECK(strstr(t, "libc.so.6"));
  for (char* l = strtok(t, "\n"); l; l = strtok(0, "\n")) {
    unsigned long a, b;
    sscanf(l, "%lx-%lx", &a, &b);
    if (b - a >= (1ul << 29))
      FAIL("big %s", l);
  }
}
T(maps_new_mapping) {
  char* p = mmap(0, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(p + 4096, 4096, PROT_NONE);
  munmap(p + 3 * 4096, 4096);
  char w[64];
  char* t = slurp("/proc/self/maps");
  sprintf(w, "%lx-%lx ---p", (long)p + 4096, (long)p + 8192);
  CHECK(strstr(t, w));
  sprintf(w, "-%lx rw-p", (long)p + 3 * 4096);
  CHECK(strstr(t, w));
}
T(maps_file) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  ftruncate(fd, 8192);
  char* p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(p != MAP_FAILED);
  p[0] = 1;
  char w[200];
  struct stat s;
  fstat(fd, &s);
  char cwd[100];
  getcwd(cwd, 100);
  char* t = slurp("/proc/self/maps");
  sprintf(w, "%lx-%lx rw-p 00000000 %02x:%02x %lu", (long)p, (long)p + 8192, major(s.st_dev),
          minor(s.st_dev), s.st_ino);
  CHECK(strstr(t, w));
  sprintf(w, "%s/f", cwd);
  CHECK(strstr(t, w));
  unlink("f");
  t = slurp("/proc/self/maps");
  sprintf(w, "%s/f (deleted)", cwd);
  CHECK(strstr(t, w));
}
T(maps_pid) {
  char p[64];
  sprintf(p, "/proc/%d/maps", getpid());
  char* t = slurp(p);
  CHECK(!strstr(t, "memfd"));
  char* q = mmap(0, 4096, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char w[64];
  sprintf(w, "%lx-", (long)q);
  sprintf(p, "/proc/%d/task/%d/maps", getpid(), getpid());
  t = slurp(p);
}
// Sixty thousand mappings are listed at once, not in a minute.
T(maps_of_many) {
  enum { kCount = 30000 };
  char* area = mmap(0, kCount * 8192L, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (long i = 0; i < kCount; i++)
    EQ(mprotect(area + i * 8192, 4096, PROT_READ | PROT_WRITE), 0);
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[512];
  unsigned long start, end;
  char mode[8];
  int lines = 0;
  while (fgets(line, sizeof line, maps)) {
    EQ(sscanf(line, "%lx-%lx %4s", &start, &end, mode), 3);
    if (start - (unsigned long)area < kCount * 8192L) {
      CHECK(!strcmp(mode, (start - (unsigned long)area) % 8192 ? "---p" : "rw-p"));
      lines++;
    }
  }
  EQ(lines, 2 * kCount);
}
T(maps_rewind) {
  int fd = open("/proc/self/maps", O_RDONLY);
  static char b[65536];
  int n = read(fd, b, 65535);
  CHECK(n > 0);
  char* p = mmap(0, 4096 * 77, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(p + 4096, 4096, PROT_EXEC);
  EQ(lseek(fd, 0, SEEK_SET), 0);
  int at = 0;
  while ((n = read(fd, b + at, 65535 - at)) > 0)
    at += n;
  b[at] = 0;
  char w[64];
  sprintf(w, "%lx-%lx --xp", (long)p + 4096, (long)p + 8192);
  CHECK(strstr(b, w));
}
T(maps_openat) {
  int d = open("/proc/self", O_RDONLY | O_DIRECTORY);
  CHECK(d >= 0);
  int fd = openat(d, "maps", O_RDONLY);
  CHECK(fd >= 0);
  static char b[65536];
  int at = 0, n;
  while ((n = read(fd, b + at, 65535 - at)) > 0)
    at += n;
  b[at] = 0;
  CHECK(!strstr(b, "memfd"));
  CHECK(!strstr(b, "rw-p 00000000 00:00 0 \n2b"));
  for (char* l = strtok(b, "\n"); l; l = strtok(0, "\n")) {
    unsigned long a, c;
    sscanf(l, "%lx-%lx", &a, &c);
    if (c - a >= (1ul << 29))
      FAIL("big %s", l);
  }
}
T(maps_stdio) {
  FILE* f = fopen("/proc/self/maps", "r");
  char l[512];
  int n = 0;
  while (fgets(l, 512, f))
    n++;
  CHECK(n > 10);
  fclose(f);
}
T(smaps) {
  char* p = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(p, 4096, 1);
  memset(p + 4096, 1, (1 << 20) - 4096);
  char w[64];
  sprintf(w, "%lx-", (long)p + 4096);
  char* t = slurp("/proc/self/smaps");
  char* a = strstr(t, w);
  CHECK(a);
  CHECK(field(a, "\nRss:") >= 1020);
  CHECK(field(a, "\nSize:") >= 1020);
  CHECK(strstr(a, "VmFlags: rd wr"));
}
// The name that /proc/self/maps has for what is mapped there.
static const char* name_at(void* address) {
  static char name[256];
  char wanted[32];
  sprintf(wanted, "%lx-", (long)address);
  name[0] = 0;
  for (char* line = strtok(slurp("/proc/self/maps"), "\n"); line; line = strtok(0, "\n"))
    if (!strncmp(line, wanted, strlen(wanted)))
      sscanf(line, "%*s %*s %*s %*s %*s %255[^\n]", name);
  return name;
}
T(maps_of_shared_memory) {
  char* anonymous = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(anonymous != MAP_FAILED);
  EQ(strcmp(name_at(anonymous), "/dev/zero (deleted)"), 0);
  int f = open("shared", O_RDWR | O_CREAT, 0600);
  EQ(ftruncate(f, 4096), 0);
  char* file = mmap(0, 4096, 3, MAP_SHARED, f, 0);
  CHECK(file != MAP_FAILED);
  CHECK(strstr(name_at(file), "/shared"));
  int m = memfd_create("mine", 0);
  EQ(ftruncate(m, 4096), 0);
  char* memory = mmap(0, 4096, 3, MAP_SHARED, m, 0);
  EQ(strcmp(name_at(memory), "/memfd:mine (deleted)"), 0);
  int id = shmget(IPC_PRIVATE, 4096, 0600);
  char* segment = shmat(id, 0, 0);
  CHECK(segment != (void*)-1);
  EQ(strcmp(name_at(segment), "/SYSV00000000 (deleted)"), 0);
  shmctl(id, IPC_RMID, 0);
}
T(smaps_rollup) {
  char* t = slurp("/proc/self/smaps_rollup");
  long r = field(t, "\nRss:");
  CHECK(r > 300);
  char* p = mmap(0, 8 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 8 << 20);
  t = slurp("/proc/self/smaps_rollup");
  CHECK(field(t, "\nRss:") - r > 7000);
  CHECK(field(t, "\nRss:") - r < 9500);
}
T(status_vm) {
  char* t = slurp("/proc/self/status");
  long rss = field(t, "\nVmRSS:"), size = field(t, "\nVmSize:"), lck = field(t, "\nVmLck:");
  CHECK(rss > 300);
  CHECK(size > rss && size < 1 << 20);
  EQ(lck, 0);
  char* p = mmap(0, 8 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 8 << 20);
  EQ(mlock(p, 1 << 20), 0);
  t = slurp("/proc/self/status");
  CHECK(field(t, "\nVmRSS:") - rss >= 8000);
  EQ(field(t, "\nVmLck:"), 1024);
  EQ(field(t, "\nVmSize:") - size, 8192);
  EQ(field(t, "\nVmPeak:") >= field(t, "\nVmSize:"), 1);
  CHECK(field(t, "\nVmData:") < 1 << 20);
  munlock(p, 1 << 20);
  t = slurp("/proc/self/status");
  EQ(field(t, "\nVmLck:"), 0);
}
T(status_ids) {
  char* t = slurp("/proc/self/status");
  EQ(field(t, "\nPid:"), getpid());
  EQ(field(t, "\nPPid:"), getppid());
  EQ(field(t, "\nTracerPid:"), 0);
  EQ(field(t, "\nThreads:"), 1);
  CHECK(strstr(t, "State:\tR (running)"));
  EQ(field(t, "\nSeccomp:"), 0);
  EQ(field(t, "\nSeccomp_filters:"), 0);
  EQ(field(t, "\nNoNewPrivs:"), 0);
  CHECK(field(t, "\nFDSize:") <= 1024);
}
T(status_signals) {
  on(SIGUSR1, 0);
  signal(SIGUSR2, SIG_IGN);
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGTERM);
  sigprocmask(SIG_BLOCK, &m, 0);
  raise(SIGTERM);
  char* t = slurp("/proc/self/status");
  unsigned long v;
  sscanf(strstr(t, "\nSigCgt:") + 8, "%lx", &v);
  CHECK(v & (1ul << (SIGUSR1 - 1)));
  sscanf(strstr(t, "\nSigBlk:") + 8, "%lx", &v);
  EQ(v, 1ul << 14);
  sscanf(strstr(t, "\nSigIgn:") + 8, "%lx", &v);
  CHECK(v & (1 << 11));
  sscanf(strstr(t, "\nSigPnd:") + 8, "%lx", &v);
  unsigned long w;
  sscanf(strstr(t, "\nShdPnd:") + 8, "%lx", &w);
  CHECK((v | w) & (1ul << 14));
  signal(SIGTERM, SIG_IGN);
}
T(stat_fields) {
  burn(200);
  char* t = slurp("/proc/self/stat");
  char* a = strrchr(t, ')') + 2;
  unsigned long f[60];
  char st;
  int n = 0;
  sscanf(a, "%c", &st);
  a += 2;
  for (char* x = strtok(a, " "); x && n < 60; x = strtok(0, " "))
    f[n++] = strtoul(x, 0, 10);
  EQ(st, 'R');
  EQ(f[0], getppid());
  CHECK(n >= 49);
  long ut = f[10], s = f[11];
  CHECK(ut + s >= 15);
  CHECK(ut + s < 100);
  EQ(f[16], 1);
  CHECK(f[19] > 1000000 && f[19] < 1l << 30);
  CHECK(f[20] > 100);
  unsigned long code = (unsigned long)t_stat_fields;
  CHECK(code >= f[22] && code < f[23]);
  unsigned long sp = (unsigned long)&t;
  CHECK(sp <= f[24]);
}
T(statm) {
  long v[7], w[7];
  char* t = slurp("/proc/self/statm");
  sscanf(t, "%ld %ld %ld", v, v + 1, v + 2);
  CHECK(v[0] < 200000);
  CHECK(v[1] > 100);
  char* p = mmap(0, 4 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 4 << 20);
  t = slurp("/proc/self/statm");
  sscanf(t, "%ld %ld", w, w + 1);
  EQ(w[0] - v[0], 1024);
  CHECK(w[1] - v[1] >= 1000);
}
T(fd_dir) {
  int fds[40];
  int n = 0;
  DIR* d = opendir("/proc/self/fd");
  struct dirent* e;
  while ((e = readdir(d)))
    if (e->d_name[0] != '.') {
      int f = atoi(e->d_name);
      if (fcntl(f, F_GETFD) < 0)
        FAIL("fd %d", f);
      n++;
    }
  CHECK(n < 20);
  closedir(d);
}
T(fdinfo_dir) {
  DIR* d = opendir("/proc/self/fdinfo");
  struct dirent* e;
  while ((e = readdir(d)))
    if (e->d_name[0] != '.') {
      int f = atoi(e->d_name);
      if (fcntl(f, F_GETFD) < 0)
        FAIL("fd %d", f);
    }
  closedir(d);
  int fd = open("f", O_RDWR | O_CREAT | O_APPEND, 0600);
  write(fd, "hello", 5);
  char p[64];
  sprintf(p, "/proc/self/fdinfo/%d", fd);
  char* t = slurp(p);
  EQ(field(t, "pos:"), 5);
  CHECK(strstr(t, "flags:\t0102002"));
}
T(fd_links) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  char p[64], b[200];
  sprintf(p, "/proc/self/fd/%d", fd);
  int n = readlink(p, b, 200);
  CHECK(n > 0);
  b[n] = 0;
  char c[100];
  getcwd(c, 100);
  strcat(c, "/f");
  EQ(strcmp(b, c), 0);
  int g = open(p, O_RDONLY);
  CHECK(g >= 0);
  struct stat s, r;
  fstat(fd, &s);
  fstat(g, &r);
  EQ(s.st_ino, r.st_ino);
  ERR(open("/proc/self/fd/999", O_RDONLY), ENOENT);
}
T(exe_cwd_root) {
  char b[300];
  int n = readlink("/proc/self/exe", b, 300);
  b[n] = 0;
  CHECK(strstr(b, "/proc"));
  n = readlink("/proc/self/cwd", b, 300);
  b[n] = 0;
  char c[100];
  getcwd(c, 100);
  EQ(strcmp(b, c), 0);
  n = readlink("/proc/self/root", b, 300);
  b[n] = 0;
  EQ(strcmp(b, "/"), 0);
  n = readlink("/proc/self", b, 300);
  b[n] = 0;
  EQ(atoi(b), getpid());
  n = readlink("/proc/thread-self", b, 300);
  b[n] = 0;
  char w[100];
  sprintf(w, "%d/task/%d", getpid(), gettid());
  EQ(strcmp(b, w), 0);
}
extern char** environ;
T(cmdline_change) {
  int fd = open("/proc/self/cmdline", O_RDONLY);
  char b[500];
  int n = read(fd, b, 500);
  CHECK(n > 0);
  close(fd);
  char* t = slurp("/proc/self/environ");
  CHECK(strchr(t, '='));
}
static void* sleeper(void* a) {
  int* f = a;
  f[0] = gettid();
  prctl(PR_SET_NAME, "sleepy");
  char c;
  read(f[1], &c, 1);
  return 0;
}
static int threads_listed(void) {
  DIR* d = opendir("/proc/self/task");
  struct dirent* e;
  int n = 0;
  while ((e = readdir(d)))
    n += e->d_name[0] != '.';
  closedir(d);
  return n;
}
T(task_dir) {
  int p[2];
  pipe(p);
  int a[3][2];
  pthread_t t[3];
  for (int i = 0; i < 3; i++) {
    a[i][0] = 0;
    a[i][1] = p[0];
    pthread_create(&t[i], 0, sleeper, a[i]);
  }
  for (int i = 0; i < 3; i++)
    while (!*(volatile int*)a[i])
      usleep(1000);
  nap(50);
  EQ(threads_listed(), 4);
  char w[100];
  sprintf(w, "/proc/self/task/%d/comm", a[0][0]);
  CHECK(!strcmp(slurp(w), "sleepy\n"));
  sprintf(w, "/proc/self/task/%d/stat", a[0][0]);
  char* s = slurp(w);
  CHECK(strstr(s, "(sleepy) S"));
  EQ(atoi(s), a[0][0]);
  sprintf(w, "/proc/self/task/%d/status", a[1][0]);
  s = slurp(w);
  EQ(field(s, "\nPid:"), a[1][0]);
  EQ(field(s, "\nTgid:"), getpid());
  EQ(field(s, "\nThreads:"), 4);
  CHECK(strstr(s, "S (sleeping)"));
  write(p[1], "abc", 3);
  for (int i = 0; i < 3; i++)
    pthread_join(t[i], 0);
  EQ(threads_listed(), 1);
}
static void* ends(void* a) {
  return a;
}
T(joined_are_gone) {
  int bad = 0;
  for (int r = 0; r < 100; r++) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
      pthread_create(&t[i], 0, ends, 0);
    for (int i = 0; i < 4; i++)
      pthread_join(t[i], 0);
    bad += threads_listed() != 1;
  }
  EQ(bad, 0);
}
static void* after_leader(void* a) {
  while (!strstr(slurp("/proc/self/stat"), ") Z"))
    usleep(1000);
  _exit(threads_listed());
  return a;
}
T(ended_leader_is_listed) {
  int status;
  pid_t c = fork();
  if (!c) {
    pthread_t t;
    pthread_create(&t, 0, after_leader, 0);
    pthread_exit(0);
  }
  EQ(waitpid(c, &status, 0), c);
  EQ(WEXITSTATUS(status), 2);
}
T(comm_write) {
  int fd = open("/proc/self/comm", O_RDWR);
  EQ(write(fd, "newname", 7), 7);
  char n[17] = "";
  prctl(PR_GET_NAME, n);
  EQ(strcmp(n, "newname"), 0);
  CHECK(strstr(slurp("/proc/self/status"), "Name:\tnewname\n"));
  prctl(PR_SET_NAME, "other");
  CHECK(!strcmp(slurp("/proc/self/comm"), "other\n"));
}
T(oom_adj) {
  int fd = open("/proc/self/oom_score_adj", O_RDWR);
  EQ(write(fd, "500", 3), 3);
  EQ(atoi(slurp("/proc/self/oom_score_adj")), 500);
  slurp("/proc/self/oom_score");
}
T(limits) {
  char* t = slurp("/proc/self/limits");
  CHECK(strstr(t, "Max open files"));
  struct rlimit r = {100, 200};
  EQ(setrlimit(RLIMIT_NOFILE, &r), 0);
  t = slurp("/proc/self/limits");
  CHECK(strstr(t, "Max open files            100                  200"));
  for (int i = 0; i < 200; i++) {
    int f = dup(0);
    if (f < 0) {
      EQ(errno, EMFILE);
      CHECK(i > 50);
      return;
    }
    CHECK(f < 100);
  }
  FAIL("no EMFILE");
}
T(auxv) {
  int fd = open("/proc/self/auxv", O_RDONLY);
  unsigned long v[64];
  int n = read(fd, v, sizeof v);
  CHECK(n > 100);
  int ok = 0;
  for (int i = 0; i < n / 16; i++) {
    if (v[2 * i] == 6)
      EQ(v[2 * i + 1], 4096);
    if (v[2 * i] == 33) {
      char w[40];
      sprintf(w, "%lx-", v[2 * i + 1]);
      CHECK(strstr(slurp("/proc/self/maps"), w));
      ok = 1;
    }
  }
  CHECK(ok);
}
T(mem_rw) {
  static char secret[] = "the secret";
  int fd = open("/proc/self/mem", O_RDWR);
  CHECK(fd >= 0);
  char b[16] = "";
  EQ(pread(fd, b, 11, (off_t)(uintptr_t)secret), 11);
  EQ(strcmp(b, secret), 0);
  EQ(pwrite(fd, "THE", 3, (off_t)(uintptr_t)secret), 3);
  EQ(strncmp(secret, "THE", 3), 0);
  EQ(lseek(fd, (off_t)(uintptr_t)secret, SEEK_SET), (long)secret);
  EQ(read(fd, b, 5), 5);
  EQ(strncmp(b, "THE s", 5), 0);
  ERR(pread(fd, b, 4, 0), EIO);
  const char* ro = "constant";
  EQ(pwrite(fd, "C", 1, (off_t)(uintptr_t)ro), 1);
  EQ(*(volatile char*)ro, 'C');
}
T(pagemap) {
  char* p = mmap(0, 4 * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  p[0] = 1;
  p[8192] = 1;
  int fd = open("/proc/self/pagemap", O_RDONLY);
  uint64_t v[4];
  EQ(pread(fd, v, 32, (uintptr_t)p / 4096 * 8), 32);
  CHECK(v[0] >> 63);
  CHECK(!(v[1] >> 63));
  CHECK(v[2] >> 63);
}
T(io_sched) {
  slurp("/proc/self/io");
  slurp("/proc/self/sched");
  slurp("/proc/self/schedstat");
  slurp("/proc/self/wchan");
  slurp("/proc/self/syscall");
  slurp("/proc/self/stack");
  slurp("/proc/self/personality");
  slurp("/proc/self/cgroup");
  slurp("/proc/self/mountinfo");
  slurp("/proc/self/mounts");
  slurp("/proc/self/loginuid");
  slurp("/proc/self/timers");
  slurp("/proc/self/uid_map");
  slurp("/proc/self/coredump_filter");
}
T(numa_maps) {
  if (access("/proc/self/numa_maps", F_OK))
    return;
  char* t = slurp("/proc/self/numa_maps");
  char* p = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 1 << 20);
  t = slurp("/proc/self/numa_maps");
  CHECK(!strstr(t, "memfd"));
  CHECK(strstr(t, "anon="));
}
T(clear_refs) {
  int fd = open("/proc/self/clear_refs", O_WRONLY);
  if (fd < 0)
    return;
  EQ(write(fd, "1", 1), 1);
}
T(child_proc) {
  pid_t p = fork();
  if (!p) {
    pause();
    _exit(0);
  }
  nap(100);
  char w[64];
  sprintf(w, "/proc/%d/stat", p);
  char* t = slurp(w);
  CHECK(strstr(t, ") S "));
  sprintf(w, "/proc/%d/status", p);
  t = slurp(w);
  EQ(field(t, "\nPPid:"), getpid());
  sprintf(w, "/proc/%d/maps", p);
  t = slurp(w);
  CHECK(strstr(t, "libc"));
  sprintf(w, "/proc/%d/cmdline", p);
  CHECK(strstr(slurp(w), "proc"));
  sprintf(w, "/proc/%d/fd", p);
  DIR* d = opendir(w);
  struct dirent* e;
  while ((e = readdir(d)))
    CHECK(atoi(e->d_name) < 3000);
  kill(p, SIGSTOP);
  int st;
  EQ(waitpid(p, &st, WUNTRACED), p);
  sprintf(w, "/proc/%d/stat", p);
  CHECK(strstr(slurp(w), ") T "));
  kill(p, SIGKILL);
  siginfo_t i;
  EQ(waitid(P_PID, p, &i, WEXITED | WNOWAIT), 0);
  CHECK(strstr(slurp(w), ") Z "));
  reap(p);
}
T(child_state_wait) { /* tst_process_state_wait */
  pid_t p = fork();
  if (!p) {
    for (int i = 0; i < 3; i++)
      burn(30);
    sigset_t s;
    sigemptyset(&s);
    sigsuspend(&s);
    _exit(0);
  }
  char w[64];
  sprintf(w, "/proc/%d/stat", p);
  for (int i = 0; i < 3000; i++) {
    char* t = strrchr(slurp(w), ')');
    if (t[2] == 'S') {
      kill(p, SIGTERM);
      EQ(reap(p), SIGTERM);
      return;
    }
    usleep(1000);
  }
  FAIL("never S");
}
T(child_mem) {
  static char sec[] = "abcdefgh";
  int c[2];
  pipe(c);
  pid_t p = fork();
  if (!p) {
    strcpy(sec, "CHANGED");
    write(c[1], "x", 1);
    pause();
  }
  char b[16];
  read(c[0], b, 1);
  char w[64];
  sprintf(w, "/proc/%d/mem", p);
  int fd = open(w, O_RDONLY);
  EQ(pread(fd, b, 8, (uintptr_t)sec), 8);
  EQ(strcmp(b, "CHANGED"), 0);
  kill(p, 9);
  reap(p);
}
T(vm_readv_self) {
  char a[64] = "hello world", b[64] = "";
  struct iovec l = {b, 12}, r = {a, 12};
  EQ(process_vm_readv(getpid(), &l, 1, &r, 1, 0), 12);
  EQ(strcmp(a, b), 0);
  r.iov_base = (void*)8;
  ERR(process_vm_readv(getpid(), &l, 1, &r, 1, 0), EFAULT);
  ERR(process_vm_readv(getpid(), &l, 1, &r, 1, 1), EINVAL);
  r.iov_base = a;
  strcpy(b, "HELLO");
  EQ(process_vm_writev(getpid(), &l, 1, &r, 1, 0), 12);
  EQ(strcmp(a, "HELLO"), 0);
  ERR(process_vm_readv(999999, &l, 1, &r, 1, 0), ESRCH);
}
T(vm_readv_child) {
  static char sec[] = "abcdefgh";
  int c[2];
  pipe(c);
  pid_t p = fork();
  if (!p) {
    strcpy(sec, "CHANGED");
    write(c[1], "x", 1);
    pause();
  }
  char b[16];
  read(c[0], b, 1);
  struct iovec l = {b, 8}, r = {sec, 8};
  EQ(process_vm_readv(p, &l, 1, &r, 1, 0), 8);
  EQ(strcmp(b, "CHANGED"), 0);
  strcpy(b, "again");
  EQ(process_vm_writev(p, &l, 1, &r, 1, 0), 8);
  memset(b, 0, 8);
  EQ(process_vm_readv(p, &l, 1, &r, 1, 0), 8);
  EQ(strcmp(b, "again"), 0);
  kill(p, 9);
  reap(p);
}
T(setproctitle) {
  char* t = slurp("/proc/self/cmdline");
  CHECK(strstr(t, "proc"));
}
T(personality_get) {
  unsigned p = personality(0xffffffff);
  char* t = slurp("/proc/self/personality");
  EQ(strtoul(t, 0, 16), p);
  EQ(personality(p | ADDR_NO_RANDOMIZE), p);
  EQ(strtoul(slurp("/proc/self/personality"), 0, 16), p | ADDR_NO_RANDOMIZE);
}
T(read_implies_exec) {
  personality(personality(0xffffffff) | READ_IMPLIES_EXEC);
  char* p = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char w[64];
  sprintf(w, "%lx-%lx r-xp", (long)p, (long)p + 4096);
  CHECK(strstr(slurp("/proc/self/maps"), w));
}
T(proc_thread_self) {
  char* t = slurp("/proc/thread-self/status");
  EQ(field(t, "\nPid:"), gettid());
  CHECK(strstr(slurp("/proc/thread-self/maps"), "[stack]"));
  slurp("/proc/thread-self/children");
}
T(proc_all_read) {
  DIR* d = opendir("/proc/self");
  struct dirent* e;
  while ((e = readdir(d))) {
    char p[300];
    sprintf(p, "/proc/self/%s", e->d_name);
    if (e->d_type != DT_REG || !strcmp(e->d_name, "mem") || !strcmp(e->d_name, "pagemap") ||
        !strcmp(e->d_name, "clear_refs"))
      continue;
    int fd = open(p, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
      continue;
    char b[4096];
    int n = read(fd, b, 4096);
    if (n < 0 && errno != EINVAL && errno != EPERM && errno != EIO && errno != ESRCH &&
        errno != EAGAIN)
      FAIL("%s", p);
    close(fd);
  }
}
T(vmlck_lockall) {
  struct rlimit r = {64 << 20, 64 << 20};
  EQ(mlockall(MCL_FUTURE), 0);
  char* p = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED);
  long k = field(slurp("/proc/self/status"), "\nVmLck:");
  CHECK(k >= 1024 && k < 8192);
  munlockall();
  EQ(field(slurp("/proc/self/status"), "\nVmLck:"), 0);
}
T(ns_links) {
  char b[100];
  int n = readlink("/proc/self/ns/pid", b, 100);
  CHECK(n > 0);
  struct stat s;
  EQ(stat("/proc/self/ns/net", &s), 0);
  int f = open("/proc/self/ns/uts", O_RDONLY);
  CHECK(f >= 0);
}
T(stat_of_maps_file) {
  struct stat s;
  EQ(stat("/proc/self/maps", &s), 0);
  EQ(s.st_size, 0);
  int fd = open("/proc/self/maps", O_RDONLY);
  EQ(fstat(fd, &s), 0);
  EQ(s.st_size, 0);
  EQ(s.st_mode & S_IFMT, S_IFREG);
  struct statfs f;
  fstatfs(fd, &f);
  EQ(f.f_type, 0x9fa0);
}

// Opened while it lived.
T(files_of_a_reaped_child) {
  const char* const names[] = {"stat", "statm", "status"};
  int files[3];
  char text[64];
  const pid_t child = fork();
  if (!child)
    for (;;)
      pause();
  for (int i = 0; i < 3; i++) {
    sprintf(text, "/proc/%d/%s", child, names[i]);
    files[i] = open(text, O_RDONLY);
    CHECK(files[i] >= 0);
  }
  CHECK(read(files[0], text, sizeof text) > 0);
  kill(child, SIGKILL);
  reap(child);
  EQ(lseek(files[0], 0, SEEK_SET), 0);
  for (int i = 0; i < 3; i++)
    ERR(read(files[i], text, sizeof text), ESRCH);
}
