#include <sys/mman.h>

#include "sys/files.h"
#include "sys/process.h"

namespace tess::sys {
namespace {

// Files in memory instead of pipes: neither side can block on the other, however much is written.
Result<Fd> memory_file(const std::string& content) {
  Fd fd(::memfd_create("tess-tool", MFD_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("make a file in memory");
  }
  TESS_TRY(write_all(fd, std::as_bytes(std::span(content))));
  TESS_TRY(rewind_file(fd));
  return fd;
}

}  // namespace

Result<std::string> run_tool(SpawnOptions options, const std::string& input) {
  TESS_TRY_ASSIGN(const Fd in, memory_file(input));
  TESS_TRY_ASSIGN(const Fd out, memory_file({}));
  options.fds.insert(options.fds.end(), {{in.get(), 0}, {out.get(), 1}, {out.get(), 2}});
  TESS_TRY_ASSIGN(Process tool, Process::spawn(options));
  TESS_TRY_ASSIGN(const ExitStatus status, tool.wait());
  TESS_TRY(rewind_file(out));
  TESS_TRY_ASSIGN(std::string output, read_to_end(out));
  if (!status.success()) {
    return fail(ErrorKind::kFailed, "{} {}: {}", options.argv[0], status.text(), output);
  }
  return output;
}

}  // namespace tess::sys
