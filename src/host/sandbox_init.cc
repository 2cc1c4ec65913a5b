#include "host/sandbox_init.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "stub/abi.h"
#include "stub/session.h"

#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40
#endif

// Raw system calls outside sys/: between clone and the jump into the stub nothing else may run.
namespace tess::host {
namespace {

constexpr int kRequestsFd = 10;
constexpr int kExitsFd = 11;
constexpr int kSignalsFd = 12;

enum InitStep : uint32_t {
  kStepNone,
  kStepUserNamespace,
  kStepCredentials,
  kStepNamespaces,
  kStepRoot,
  kStepPrivileges,
  kStepFork
};

void reply(int result, uint32_t step, int fd) {
  InitReply message{result, step};
  iovec part{&message, sizeof(message)};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = ancillary;
    header.msg_controllen = sizeof(ancillary);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
  }
  ::sendmsg(kRequestsFd, &header, MSG_NOSIGNAL);
}

[[noreturn]] void fail_stage(uint32_t step) {
  reply(-errno, step, -1);
  ::_exit(1);
}

// The next request and the descriptor in it (or -1). The agent's death is ours.
InitRequest receive(int& fd) {
  InitRequest request{};
  iovec part{&request, sizeof(request)};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = ancillary;
  header.msg_controllen = sizeof(ancillary);
  ssize_t n;
  do {
    n = ::recvmsg(kRequestsFd, &header, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(sizeof(request))) {
    ::_exit(0);
  }
  fd = -1;
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    std::memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
  }
  return request;
}

void expect(InitCommand command) {
  int fd;
  if (receive(fd).command != command) {
    ::_exit(1);
  }
}

// No user namespaces below the sandbox's: they would give a body capabilities to play with. A
// kernel without the limit has not got it.
void forbid_nesting() {
  const int fd = ::open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    (void)!::write(fd, "0\n", 2);
    ::close(fd);
  }
}

// An empty read-only tmpfs as root; nothing of the old tree can be named any more.
bool make_empty_root() {
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                 "size=4k,nr_inodes=2,mode=0555") == 0 &&
         ::chdir("/proc") == 0 && ::syscall(SYS_pivot_root, ".", ".") == 0 &&
         ::umount2(".", MNT_DETACH) == 0 && ::chdir("/") == 0 &&
         ::mount("none", "/", nullptr, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
                 nullptr) == 0;
}

// What is left: CAP_CHECKPOINT_RESTORE in the sandbox's own user namespace, to give threads their
// home tids.
bool drop_privileges() {
  constexpr int kBits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                        SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED | SECBIT_KEEP_CAPS_LOCKED;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECUREBITS, kBits) != 0) {
    return false;
  }
  for (int cap = 0; cap < 64; ++cap) {
    if (cap != CAP_CHECKPOINT_RESTORE && ::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 &&
        errno != EINVAL) {
      return false;
    }
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[1].permitted = data[1].effective = 1u << (CAP_CHECKPOINT_RESTORE - 32);
  return ::syscall(SYS_capset, &header, data) == 0;
}

void limit(int resource, rlim_t soft) {
  rlimit value{};
  ::getrlimit(static_cast<__rlimit_resource>(resource), &value);
  value.rlim_cur = std::min(soft, value.rlim_max);
  ::setrlimit(static_cast<__rlimit_resource>(resource), &value);
}

[[noreturn]] void exit_child() {
  ::_exit(127);
}

// The blank body, still with the agent's memory around it: makes the region and jumps into the
// stub, which serves the agent's commands. It never returns to this code.
[[noreturn]] void become_blank_body(const InitRequest& request, int mailbox) {
  using namespace stub;
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  if (::dup2(mailbox, kBodyFdBase) < 0 || ::syscall(SYS_close_range, 0, kBodyFdBase - 1, 0) != 0 ||
      ::syscall(SYS_close_range, kBodyFdBase + 1, ~0u, 0) != 0) {
    exit_child();
  }
  const uint64_t base = request.region_base;
  const uint64_t leader = slot_address(base, static_cast<uint32_t>(request.slot));
  const auto at = [base](uint64_t offset) { return reinterpret_cast<void*>(base + offset); };
  if (::mmap(at(0), kRegionSize, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != at(0) ||
      ::mprotect(at(0), kCodeMax, PROT_READ | PROT_WRITE) != 0 ||
      ::mprotect(at(kControlOffset), kControlSize, PROT_READ | PROT_WRITE) != 0 ||
      ::mprotect(reinterpret_cast<void*>(leader), kSlotSize, PROT_READ | PROT_WRITE) != 0) {
    exit_child();
  }
  const auto code = blob();
  std::memcpy(at(0), code.data(), code.size());
  if (::mprotect(at(0), kCodeMax, PROT_READ | PROT_EXEC) != 0) {
    exit_child();
  }
  auto* control = static_cast<ControlBlock*>(at(kControlOffset));
  *control = make_control_block(base, request.pid, request.job, kBodyFdBase, kBodyFdBase);
  control->role = kRoleBody;
  auto* slot = reinterpret_cast<Slot*>(leader);
  make_slot(*slot, base, static_cast<uint32_t>(request.slot), kBodyFdBase);
  slot->thread.tid = request.pid;
  ::syscall(SYS_set_robust_list, nullptr, 24);
  ::syscall(SYS_set_tid_address, nullptr);
  const uint64_t entry = base + blob_header().entry_blank;
  const uint64_t stack = leader + kSlotSize;
  __asm__ volatile(
      "mov %0, %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"
      "jmp *%1"
      :
      : "r"(stack), "r"(entry), "D"(slot)
      : "memory");
  __builtin_unreachable();
}

void reap();

void spawn(const InitRequest& request, int mailbox) {
  reap();  // the pid may be that of a body that has just ended
  int pidfd = -1;
  const pid_t wanted = request.pid;
  clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  args.set_tid = reinterpret_cast<uint64_t>(&wanted);
  args.set_tid_size = 1;
  const long child = ::syscall(SYS_clone3, &args, sizeof(args));
  if (child == 0) {
    become_blank_body(request, mailbox);
  }
  reply(child < 0 ? -errno : 0, kStepNone, pidfd);
  if (pidfd >= 0) {
    ::close(pidfd);
  }
}

void open_process(const InitRequest& request) {
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, request.pid, 0));
  reply(pidfd < 0 ? -errno : 0, kStepNone, pidfd);
  if (pidfd >= 0) {
    ::close(pidfd);
  }
}

void reap() {
  signalfd_siginfo ignored;
  while (::read(kSignalsFd, &ignored, sizeof(ignored)) > 0) {
  }
  while (true) {
    InitExit event{};
    event.pid = ::waitpid(-1, &event.wait_status, WNOHANG | __WALL);
    if (event.pid <= 0) {
      return;
    }
    ::send(kExitsFd, &event, sizeof(event), MSG_NOSIGNAL);
  }
}

[[noreturn]] void run_init() {
  ::prctl(PR_SET_NAME, "tess-sandbox", 0, 0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // The C library has registered restartable sequences in memory that a body unmaps; children
  // inherit the registration.
  const auto rseq_address =
      reinterpret_cast<uint64_t>(__builtin_thread_pointer()) + static_cast<uint64_t>(__rseq_offset);
  for (const unsigned size : {32u, __rseq_size}) {
    if (__rseq_size != 0 && ::syscall(SYS_rseq, rseq_address, size, 1, RSEQ_SIG) == 0) {
      break;
    }
  }
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NOFILE, 8192);
  sigset_t chld;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  ::sigprocmask(SIG_SETMASK, &chld, nullptr);
  const int signals = ::signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signals < 0 || ::dup3(signals, kSignalsFd, O_CLOEXEC) < 0 || !drop_privileges()) {
    fail_stage(kStepPrivileges);
  }
  ::close(signals);
  reply(0, kStepNone, -1);
  while (true) {
    pollfd waits[2] = {{kRequestsFd, POLLIN, 0}, {kSignalsFd, POLLIN, 0}};
    ::poll(waits, 2, -1);
    if (waits[1].revents != 0) {
      reap();
    }
    if (waits[0].revents == 0) {
      continue;
    }
    int fd;
    const InitRequest request = receive(fd);
    if (request.command == InitCommand::kSpawn && fd >= 0) {
      spawn(request, fd);
    } else if (request.command == InitCommand::kOpen) {
      open_process(request);
    } else {
      reply(-EINVAL, kStepNone, -1);
    }
    if (fd >= 0) {
      ::close(fd);
    }
  }
}

}  // namespace

const char* init_step_name(uint32_t step) {
  switch (step) {
    case kStepUserNamespace:
      return "make a user namespace";
    case kStepCredentials:
      return "take the unprivileged identity";
    case kStepNamespaces:
      return "make mount, net, ipc, uts and time namespaces";
    case kStepRoot:
      return "make an empty root";
    case kStepPrivileges:
      return "drop privileges";
    case kStepFork:
      return "make a pid namespace";
    default:
      return "start";
  }
}

void run_sandbox(int requests, int exits) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  // Out of the way of 10 to 12 first, as either may stand there.
  const int r = ::fcntl(requests, F_DUPFD_CLOEXEC, 64);
  const int e = ::fcntl(exits, F_DUPFD_CLOEXEC, 64);
  ::dup3(r, kRequestsFd, O_CLOEXEC);
  ::dup3(e, kExitsFd, O_CLOEXEC);
  ::syscall(SYS_close_range, 0, kRequestsFd - 1, 0);
  ::syscall(SYS_close_range, kExitsFd + 1, ~0u, 0);
  for (int signal = 1; signal < 65; ++signal) {
    struct sigaction plain {};
    plain.sa_handler = SIG_DFL;
    ::sigaction(signal, &plain, nullptr);
  }
  if (::unshare(CLONE_NEWUSER) != 0) {
    fail_stage(kStepUserNamespace);
  }
  reply(0, kStepNone, -1);
  expect(InitCommand::kMapped);
  if (::setresgid(0, 0, 0) != 0 || ::setgroups(0, nullptr) != 0 || ::setresuid(0, 0, 0) != 0) {
    fail_stage(kStepCredentials);
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);  // the change of identity has cleared it
  constexpr int kCloneNewTime = 0x80;
  if (::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | kCloneNewTime) != 0 ||
      ::sethostname("tessera", 7) != 0) {
    fail_stage(kStepNamespaces);
  }
  forbid_nesting();
  if (!make_empty_root()) {
    fail_stage(kStepRoot);
  }
  reply(0, kStepNone, -1);
  expect(InitCommand::kStart);
  // pid 1 becomes the agent's own child (CLONE_PARENT), so that this stage need not stay.
  if (::unshare(CLONE_NEWPID) != 0) {
    fail_stage(kStepFork);
  }
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PARENT | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long child = ::syscall(SYS_clone3, &args, sizeof(args));
  if (child < 0) {
    fail_stage(kStepFork);
  }
  if (child == 0) {
    run_init();
  }
  reply(0, kStepNone, pidfd);
  ::_exit(0);
}

}  // namespace tess::host
