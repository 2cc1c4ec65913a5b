// What /proc/PID/* says of a process whose memory and CPU time are elsewhere: the host's text about
// the body and home's text about the deputy become what a native process would read. Freestanding
// (part of the blob); plain values in, text out through a sink.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stub/abi.h"

namespace tess::stub {

struct Text {
  const char* begin;
  const char* end;
};

struct TextSink {
  void* context;
  void (*write)(void* context, const char* from, size_t n);
};

// What neither text says.
struct ProcFacts {
  uint64_t region_base = 0;     // the stub's region is left out
  uint64_t region_data_kb = 0;  // writable private part of it
  int64_t cpu_ticks = 0;  // used elsewhere before, to be added to the host's count of user time
  uint64_t children_ticks_user = 0;  // of children that have ended, beyond what home knows
  uint64_t children_ticks_system = 0;
  bool all_locked = false;  // mlockall in force
  char call_state = 0;      // 'S' or 'R' where neither text says whether it sleeps
};

// `home_maps` is /proc/PID/maps at home: which path a mapped home file has.
void write_proc_text(ProcFile file, Text host, Text home, Text home_maps, const ProcFacts& facts,
                     const TextSink& sink);

// A mapping of a home file, from a line of a body's maps on its host.
struct FileRange {
  uint64_t start;
  uint64_t end;
  uint64_t offset;
  uint64_t major;
  uint64_t minor;
  uint64_t inode;
  char perms[4];
};
bool parse_file_range(Text line, FileRange& range);

// The host's file that the text of `file` is made from.
inline ProcFile host_source(ProcFile file) {
  return file == kProcSmapsRollup ? kProcSmaps : file;
}

// Of others a body may only learn what everyone may.
inline bool is_public(uint32_t file) {
  return file == kProcStat || file == kProcStatm || file == kProcStatus || file == kProcSchedstat ||
         file == kProcCmdline;
}

// Which file of a process a procfs path names: ".../PID/name" or ".../PID/task/TID/name".
struct ProcPath {
  ProcFile file = kProcNone;
  int32_t pid = 0;
  int32_t tid = 0;  // 0: the process
};
ProcPath parse_proc_path(Text path);

}  // namespace tess::stub
