// The decisions of one job's migrations, one line each, in an append-only file: `operation pid kind
// state from to`. decided() returns only when the line is on disk. Read by people and by tests that
// crash the agent. Any thread; lines are written whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::migrate {

struct JournalEntry {
  uint64_t operation = 0;
  int32_t pid = 0;
  std::string kind;   // out, hop, back
  std::string state;  // begun, decided, moved, stayed
  std::string from;
  std::string to;
  bool operator==(const JournalEntry&) const = default;
};

class Journal {
 public:
  // DIRECTORY/JOB, made if missing.
  static Result<Journal> open(const std::string& directory, uint64_t job);
  Result<> write(const JournalEntry& entry);
  Result<> decided(JournalEntry entry);
  // Entries of a journal file; a torn last line is left out.
  static Result<std::vector<JournalEntry>> read(const std::string& path);
  const std::string& path() const { return path_; }

 private:
  Journal(sys::Fd file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  sys::Fd file_;
  std::string path_;
};

}  // namespace tess::migrate
