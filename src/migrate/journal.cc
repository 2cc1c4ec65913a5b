#include "migrate/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace tess::migrate {

Result<Journal> Journal::open(const std::string& directory, uint64_t job) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return fail(ErrorKind::kFailed, "make the journal directory {}: {}", directory,
                error.message());
  }
  std::string path = fmt::format("{}/{}", directory, job);
  sys::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return fail_errno("open the journal {}", path);
  }
  return Journal(std::move(file), std::move(path));
}

Result<> Journal::write(const JournalEntry& entry) {
  const std::string line = fmt::format("{} {} {} {} {} {}\n", entry.operation, entry.pid,
                                       entry.kind, entry.state, entry.from, entry.to);
  return sys::write_all(file_, std::as_bytes(std::span(line.data(), line.size())));
}

Result<> Journal::decided(JournalEntry entry) {
  entry.state = "decided";
  TESS_TRY(write(entry));
  if (::fdatasync(file_.get()) != 0) {
    return fail_errno("write the journal {} to disk", path_);
  }
  return {};
}

Result<std::vector<JournalEntry>> Journal::read(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return fail(ErrorKind::kFailed, "open the journal {}", path);
  }
  std::vector<JournalEntry> entries;
  std::string line;
  while (std::getline(file, line) && !file.eof()) {
    std::istringstream fields(line);
    JournalEntry entry;
    if (fields >> entry.operation >> entry.pid >> entry.kind >> entry.state >> entry.from >>
        entry.to) {
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

}  // namespace tess::migrate
