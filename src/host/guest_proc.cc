// Files of /proc that a body may read about itself, and what everyone may read about the others.
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "host/capture.h"
#include "host/guest.h"
#include "stub/abi.h"
#include "stub/proc_text.h"

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

int mode_of(uint32_t file) {
  if (file == stub::kProcMem) {
    return O_RDWR;
  }
  return file == stub::kProcClearRefs ? O_WRONLY : O_RDONLY;
}

// Of the process, or of one thread if `tid` is not 0.
Result<sys::Fd> open_proc(pid_t outer_pid, int32_t tid, uint32_t file) {
  std::string path = fmt::format("/proc/{}", outer_pid);
  if (tid != 0) {
    TESS_TRY_ASSIGN(const auto threads, threads_of(outer_pid));
    for (const ThreadIds& ids : threads) {
      if (ids.inside == tid) {
        path += fmt::format("/task/{}", ids.outside);
      }
    }
  }
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
