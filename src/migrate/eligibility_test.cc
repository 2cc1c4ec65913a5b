// On real processes, each brought into the state that forbids a move (or not).
#include "migrate/eligibility.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "memory/address_space.h"
#include "migrate/sharing.h"

namespace tess::migrate {
namespace {

// A child that runs `body`, says so through a pipe and then waits to be killed.
class Child {
 public:
  explicit Child(const std::function<bool()>& body) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      return;
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char answer = body() ? 'y' : 'n';
      (void)!::write(ends[1], &answer, 1);
      while (true) {
        ::pause();
      }
    }
    ::close(ends[1]);
    char answer = 'n';
    ready_ = ::read(ends[0], &answer, 1) == 1 && answer == 'y';
    ::close(ends[0]);
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, __WALL);
  }
  pid_t pid() const { return pid_; }
  bool ready() const { return ready_; }

 private:
  pid_t pid_ = -1;
  bool ready_ = false;
};

bool mentions(const std::vector<std::string>& reasons, const char* text) {
  for (const std::string& reason : reasons) {
    if (reason.find(text) != std::string::npos) {
      return true;
    }
  }
  return false;
}

std::string all(const std::vector<std::string>& reasons) {
  std::string text;
  for (const std::string& reason : reasons) {
    text += reason + "\n";
  }
  return text;
}

constexpr int kGuardInstall = 102, kGuardRemove = 103;

TEST(Eligibility, GuardPagesStay) {
  constexpr size_t kSize = 64 << 10, kPage = 4096;
  void* const area =
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(area, MAP_FAILED);
  char* const page = static_cast<char*>(area) + 3 * kPage;
  if (::madvise(page, kPage, kGuardInstall) != 0) {
    ::munmap(area, kSize);
    GTEST_SKIP() << "this kernel has no guard pages (Linux 6.13)";
  }
  const Child guarded([] { return true; });
  ASSERT_EQ(::madvise(page, kPage, kGuardRemove), 0);
  const Child free([] { return true; });
  ASSERT_TRUE(guarded.ready() && free.ready());
  ::munmap(area, kSize);
  char named[32];
  (void)std::snprintf(named, sizeof(named), "%lx", reinterpret_cast<unsigned long>(page));
  const auto reasons = check_eligibility(guarded.pid());
  EXPECT_TRUE(mentions(reasons, "guard pages") && mentions(reasons, named)) << all(reasons);
  EXPECT_TRUE(check_eligibility(free.pid()).empty()) << all(check_eligibility(free.pid()));
}

TEST(Eligibility, AnOrdinaryProcessCanMove) {
  const Child child([] { return true; });
  ASSERT_TRUE(child.ready());
  const auto reasons = check_eligibility(child.pid());
  EXPECT_TRUE(reasons.empty()) << all(reasons);
}

TEST(Eligibility, AProgramWithThreadsCanMove) {
  const Child child([] {
    std::thread([] { ::pause(); }).detach();
    return true;
  });
  ASSERT_TRUE(child.ready());
  const auto reasons = check_eligibility(child.pid());
  EXPECT_TRUE(reasons.empty()) << all(reasons);
}

TEST(Eligibility, NobodyAndThreadsAndInit) {
  EXPECT_TRUE(mentions(check_eligibility(0x3ffffff), "there is no process"));
  EXPECT_TRUE(mentions(check_eligibility(-1), "there is no process"));
  EXPECT_TRUE(mentions(check_eligibility(1), "init"));
  std::atomic<pid_t> tid = 0;
  std::atomic<bool> end = false;
  std::thread thread([&] {
    tid = static_cast<pid_t>(::syscall(SYS_gettid));
    while (!end) {
      std::this_thread::yield();
    }
  });
  while (tid == 0) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(mentions(check_eligibility(tid), "is a thread of process"));
  end = true;
  thread.join();
}

TEST(Eligibility, KernelThread) {
  if (::access("/proc/2/status", F_OK) != 0) {
    GTEST_SKIP() << "no kernel threads in this pid namespace";
  }
  EXPECT_TRUE(mentions(check_eligibility(2), "kernel thread"));
}

TEST(Eligibility, StoppedAndEnded) {
  const Child child([] { return true; });
  ::kill(child.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(child.pid(), &status, WUNTRACED), child.pid());
  EXPECT_TRUE(check_eligibility(child.pid()).empty());
  ::kill(child.pid(), SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(mentions(check_eligibility(child.pid()), "has ended"));
}

TEST(Eligibility, Traced) {
  const Child child([] { return true; });
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, child.pid(), 0, 0), 0);
  EXPECT_TRUE(mentions(check_eligibility(child.pid()), "being traced by process"));
  EXPECT_TRUE(check_eligibility(child.pid(), {.own_tracer = ::getpid()}).empty());
}

TEST(Eligibility, Seccomp) {
  const Child child([] {
    sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const sock_fprog program{.len = 1, .filter = &allow};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
  });
  ASSERT_TRUE(child.ready());
  EXPECT_TRUE(mentions(check_eligibility(child.pid()), "seccomp filters"));
}

TEST(Eligibility, ClocksOfItsOwn) {
  const Child child([] { return ::unshare(CLONE_NEWTIME) == 0; });
  if (!child.ready()) {
    GTEST_SKIP() << "no time namespaces here";
  }
  EXPECT_TRUE(mentions(check_eligibility(child.pid()), "a time namespace"));
}

TEST(Eligibility, SharedMemoryWithSomebodyElse) {
  void* const page =
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  {
    const Child child([] { return true; });
    EXPECT_TRUE(mentions(check_eligibility(child.pid()), "shares writable memory"));
    const auto together = check_eligibility(
        child.pid(), {.moves_along = [](pid_t other) { return other == ::getpid(); }});
    EXPECT_TRUE(together.empty()) << all(together);
  }
  ::munmap(page, 4096);
  const Child alone([] {
    return ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
  });
  const auto reasons = check_eligibility(alone.pid());
  EXPECT_TRUE(reasons.empty()) << all(reasons);
}

TEST(Eligibility, SharedFilesMatterOnlyIfWritable) {
  char name[] = "/tmp/tess-share-XXXXXX";
  const int fd = ::mkstemp(name);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::ftruncate(fd, 4096), 0);
  const auto map = [&](int prot, int open_flags) {
    const int own = ::open(name, open_flags | O_CLOEXEC);
    return ::mmap(nullptr, 4096, prot, MAP_SHARED, own, 0) != MAP_FAILED;
  };
  {
    const Child writer([&] { return map(PROT_READ | PROT_WRITE, O_RDWR); });
    const Child other([&] { return map(PROT_READ, O_RDONLY); });
    ASSERT_TRUE(writer.ready() && other.ready());
    EXPECT_TRUE(mentions(check_eligibility(writer.pid()), name));
  }
  const Child first([&] { return map(PROT_READ, O_RDONLY); });
  const Child second([&] { return map(PROT_READ, O_RDONLY); });
  const auto reasons = check_eligibility(first.pid());
  EXPECT_TRUE(reasons.empty()) << all(reasons);
  ::unlink(name);
  ::close(fd);
}

TEST(Sharing, WritersOfSeveralObjectsAreFoundByObject) {
  const int fds[2] = {::memfd_create("one", MFD_CLOEXEC), ::memfd_create("two", MFD_CLOEXEC)};
  std::vector<ObjectId> objects;
  const auto map = [](int fd, int prot) {
    return ::mmap(nullptr, 4096, prot, MAP_SHARED, fd, 0) != MAP_FAILED;
  };
  constexpr int kWrite = PROT_READ | PROT_WRITE;
  const Child both([&] { return map(fds[0], kWrite) && map(fds[1], kWrite); });
  const Child one([&] { return map(fds[0], PROT_READ) && map(fds[1], kWrite); });
  ASSERT_TRUE(both.ready() && one.ready());
  for (const char* name : {"/memfd:one", "/memfd:two"}) {
    const auto mappings = memory::read_address_space(both.pid());
    ASSERT_TRUE(mappings);
    for (const memory::Mapping& mapping : *mappings) {
      if (mapping.path.starts_with(name)) {
        objects.push_back({mapping.dev_major, mapping.dev_minor, mapping.inode});
      }
    }
  }
  ASSERT_EQ(objects.size(), 2U);
  std::set<std::pair<size_t, pid_t>> found;
  for (const auto& [index, writer] : find_writers(objects)) {
    found.emplace(index, writer.pid);
  }
  const std::set<std::pair<size_t, pid_t>> wanted{{0, both.pid()}, {1, both.pid()}, {1, one.pid()}};
  EXPECT_EQ(found, wanted);
  const auto others =
      find_writers(both.pid(), objects[1].dev_major, objects[1].dev_minor, objects[1].inode);
  ASSERT_EQ(others.size(), 1U);
  EXPECT_EQ(others.front().pid, one.pid());
  ::close(fds[0]);
  ::close(fds[1]);
}

TEST(Eligibility, MemorySharedByClone) {
  static char stack[64 << 10];
  static std::atomic<pid_t> grandchild;
  static pid_t parent;
  const Child child([] {
    parent = ::getpid();
    grandchild = ::clone(
        [](void*) {
          ::prctl(PR_SET_PDEATHSIG, SIGKILL);
          while (::getppid() == parent) {  // killed before the line above, it would never tell
            ::pause();
          }
          return 0;
        },
        stack + sizeof(stack), CLONE_VM | SIGCHLD, nullptr);
    return grandchild > 0;
  });
  ASSERT_TRUE(child.ready());
  EXPECT_TRUE(mentions(check_eligibility(child.pid()), "its whole memory"));
}

TEST(Eligibility, SysvSharedMemory) {
  const Child child([] {
    const int id = ::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    void* const at = id >= 0 ? ::shmat(id, nullptr, 0) : reinterpret_cast<void*>(-1);
    ::shmctl(id, IPC_RMID, nullptr);
    return at != reinterpret_cast<void*>(-1);
  });
  if (!child.ready()) {
    GTEST_SKIP() << "no System V shared memory here";
  }
  const auto reasons = check_eligibility(child.pid());
  EXPECT_TRUE(reasons.empty()) << all(reasons);
}

TEST(Eligibility, IoUring) {
  const Child child([] {
    alignas(8) char parameters[120] = {};  // struct io_uring_params
    return ::syscall(SYS_io_uring_setup, 4, parameters) >= 0;
  });
  if (!child.ready()) {
    GTEST_SKIP() << "io_uring is not available here";
  }
  EXPECT_TRUE(mentions(check_eligibility(child.pid()), "io_uring"));
}

TEST(Eligibility, LeaderEnded) {
  const pid_t ender = ::fork();
  if (ender == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([] {
      while (true) {
        ::pause();
      }
    }).detach();
    ::syscall(SYS_exit, 0);
  }
  for (int i = 0; i < 10'000'000; ++i) {
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/%d/stat", ender);
    char text[256] = {};
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    (void)!::read(fd, text, sizeof(text) - 1);
    ::close(fd);
    if (const char* end = std::strrchr(text, ')'); end != nullptr && end[2] == 'Z') {
      break;
    }
  }
  EXPECT_TRUE(mentions(check_eligibility(ender), "first thread"));
  ::kill(ender, SIGKILL);
  ::waitpid(ender, nullptr, 0);
}

TEST(Eligibility, ThirtyTwoBitProgram) {
  // ELF32: pause() for ever, by int 0x80.
  static const unsigned char kProgram[] = {
      0x7f, 'E',  'L',  'F',  1,    1,    1,    0,    0,    0,    0,    0,
      0,    0,    0,    0,  // ident
      2,    0,    3,    0,    1,    0,    0,    0,    0x54, 0x80, 0x04, 0x08,
      0x34, 0,    0,    0,  // exec, i386, entry
      0,    0,    0,    0,    0,    0,    0,    0,    0x34, 0,    0x20, 0,
      1,    0,    0,    0,    0,    0,    0,    0,  // header sizes
      1,    0,    0,    0,    0,    0,    0,    0,    0x00, 0x80, 0x04, 0x08,
      0x00, 0x80, 0x04, 0x08, 0x60, 0,    0,    0,    0x60, 0,    0,    0,
      5,    0,    0,    0,    0,    0x10, 0,    0,                              // PT_LOAD r-x
      0x6a, 29,   0x58, 0xcd, 0x80, 0xeb, 0xf9, 0x90, 0x90, 0x90, 0x90, 0x90};  // push 29; pop eax;
                                                                                // int 0x80; jmp
  char name[] = "/tmp/tess-elf32-XXXXXX";
  const int fd = ::mkstemp(name);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, kProgram, sizeof(kProgram)), static_cast<ssize_t>(sizeof(kProgram)));
  ::fchmod(fd, 0700);
  ::close(fd);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::execl(name, name, nullptr);
    (void)!::write(ends[1], "n", 1);
    ::_exit(1);
  }
  ::close(ends[1]);
  char answer = 0;
  const bool runs = ::read(ends[0], &answer, 1) == 0;  // closed by the exec
  if (runs) {
    EXPECT_TRUE(mentions(check_eligibility(pid), "32-bit"));
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ::unlink(name);
  if (!runs) {
    GTEST_SKIP() << "this kernel does not run 32-bit programs";
  }
}

}  // namespace
}  // namespace tess::migrate
