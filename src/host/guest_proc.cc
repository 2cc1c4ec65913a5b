// Files of /proc that a body may read about itself, and what everyone may read about the others.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "base/log.h"
#include "host/capture.h"
#include "host/guest.h"
#include "stub/abi.h"
#include "stub/proc_text.h"
#include "sys/files.h"

namespace tess::host {
namespace {

const char* name_of(uint32_t file) {
  switch (file) {
    case stub::kProcMaps:
      return "maps";
    case stub::kProcSmaps:
      return "smaps";
    case stub::kProcNumaMaps:
      return "numa_maps";
    case stub::kProcStat:
      return "stat";
    case stub::kProcStatm:
      return "statm";
    case stub::kProcStatus:
      return "status";
    case stub::kProcCmdline:
      return "cmdline";
    case stub::kProcEnviron:
      return "environ";
    case stub::kProcSchedstat:
      return "schedstat";
    case stub::kProcClearRefs:
      return "clear_refs";
    case stub::kProcMem:
      return "mem";
    case stub::kProcPagemap:
      return "pagemap";
    default:
      return nullptr;
  }
}

// Calls that bodies make only to talk to home and to us, and waits of the stub's own for another
// thread.
bool is_stubs(long number, unsigned long first) {
  switch (number) {
    case SYS_read:
    case SYS_write:
    case SYS_sendto:
    case SYS_recvfrom:
    case SYS_sendmsg:
    case SYS_recvmsg:
      return true;
    case SYS_futex:
      return first >= stub::kRegionLowest && first < stub::kRegionHighest + stub::kRegionSize;
    default:
      return false;
  }
}

int mode_of(uint32_t file) {
  if (file == stub::kProcMem) {
    return O_RDWR;
  }
  return file == stub::kProcClearRefs ? O_WRONLY : O_RDONLY;
}

// Of the process, or of one thread if `tid` is not 0.
Result<std::string> folder_of(pid_t outer_pid, int32_t tid) {
  std::string path = fmt::format("/proc/{}", outer_pid);
  if (tid != 0) {
    TESS_TRY_ASSIGN(const auto threads, threads_of(outer_pid));
    for (const ThreadIds& ids : threads) {
      if (ids.inside == tid) {
        path += fmt::format("/task/{}", ids.outside);
      }
    }
  }
  return path;
}

stub::CallState call_state_of(pid_t outer_pid, int32_t tid) {
  const auto folder = folder_of(outer_pid, tid);
  const Result<std::string> text =
      folder ? sys::read_file(*folder + "/syscall") : tl::unexpected(folder.error());
  if (!text) {
    return stub::kCallUnknown;
  }
  long number = -1;
  unsigned long first = 0;
  const bool in_call = std::sscanf(text->c_str(), "%ld %lx", &number, &first) == 2 && number >= 0;
  return in_call && !is_stubs(number, first) ? stub::kCallLocal : stub::kCallCarried;
}

Result<sys::Fd> open_proc(pid_t outer_pid, int32_t tid, uint32_t file) {
  TESS_TRY_ASSIGN(std::string path, folder_of(outer_pid, tid));
  path += std::string("/") + name_of(file);
  sys::Fd fd(::open(path.c_str(), mode_of(file) | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("open {}", path);
  }
  return fd;
}

}  // namespace

void Guest::give_proc_file(const stub::MailboxNote& note) {
  stub::ChannelAnswer reply{};
  const auto of = static_cast<int32_t>(note.id >> 32);
  const auto tid = static_cast<int32_t>(note.id);
  if (note.value == stub::kProcCall) {
    if (of == pid()) {
      reply.result = call_state_of(process_.outer_pid, tid);
    } else if (const auto other = services_.sandbox.open(of); of > 1 && other) {
      reply.result = call_state_of(other->outer_pid, tid);
    }
    (void)session_->answer_channel(reply, {});
    return;
  }
  Result<sys::Fd> file = fail(ErrorKind::kBadInput, "no such file");
  if (name_of(note.value) == nullptr ||
      (of != pid() && (of <= 1 || !stub::is_public(note.value)))) {
    reply.result = -EPERM;
  } else if (of == pid()) {
    file = open_proc(process_.outer_pid, tid, note.value);
  } else if (const auto other = services_.sandbox.open(of); other) {
    file = open_proc(other->outer_pid, tid, note.value);
  }
  if (!file) {
    reply.result = reply.result != 0 ? reply.result : -ENOENT;
    (void)session_->answer_channel(reply, {});
    return;
  }
  const int fds[] = {file->get()};
  (void)session_->answer_channel(reply, fds);
}

}  // namespace tess::host
