// JobSpec: everything that a batch job is to be, as its owner wrote it and as the kernel vouched
// for him when he submitted it. Parsed from a command line or from a job file (a script whose lines
// `#TESS OPTION...` say the same options); kept and sent as one line of JSON in which everything
// that need not be UTF-8 is hex. Pure: reads no files, asks nobody.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "batch/array_spec.h"

namespace tess::batch {

inline constexpr size_t kMaxScript = 512 << 10;
inline constexpr size_t kMaxSpec = 2 << 20;  // encoded

struct After {
  uint64_t job = 0;
  bool any = false;  // however it ended; else only if all of it went well
  bool operator==(const After&) const = default;
};

struct JobSpec {
  std::string name;
  std::vector<std::string> command;  // of a job file: the arguments that its script gets
  std::string script;                // what the job file says; empty: `command` is to be run
  std::string array;                 // as in parse_array; empty: one task
  double cpus = 1;
  uint64_t memory_bytes = 0;
  std::vector<After> after;
  int priority = 0;
  bool held = false;
  bool requeue = false;  // run again if it is lost
  // Wishes of `tess run`.
  std::string node;     // --on
  std::string node_id;  // who had that name when it was submitted, as tessd knew it; empty: nobody
  bool home = false;
  bool stay = false;
  bool cpu_bound = false;
  std::vector<std::string> avoid;
  // Files; patterns as in expand_pattern. Empty: /dev/null for input, else the default.
  std::string input;
  std::string output;
  std::string error;  // empty: where the output goes
  bool append = false;
  // Where it was submitted.
  std::vector<std::string> environment;
  std::string directory;
  uint32_t umask = 022;

  // Who submitted it: filled in by tessd from the kernel's word, never believed from a client.
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::vector<std::pair<uint64_t, uint64_t>> limits;  // soft and hard, by RLIMIT_ number
};

// Takes options of `tess batch submit` from the front of `words`; what is left begins with the job
// file or, after `--` (then `command_follows`), with the command.
struct Parsed {
  JobSpec spec;
  std::vector<std::string> rest;
  bool command_follows = false;
};
Result<Parsed> parse_options(const std::vector<std::string>& words);

// An option of those, whose value is the next word.
bool needs_value(const std::string& word);

// A job file's options are the defaults, those of `given` (a command line) win. Errors name
// `path`:LINE.
Result<JobSpec> parse_job_file(const std::string& text, const std::string& path,
                               const std::vector<std::string>& given);

// Everything in range and nothing missing.
Result<> check(const JobSpec& spec);

std::string encode(const JobSpec& spec);
// Makes sense as JSON; whether as a job, check() says.
Result<JobSpec> decode(const std::string& text);

// %j the job's number, %a the task's, %n the job's name, %u the user's number, %% a percent sign.
struct PatternValues {
  uint64_t job = 0;
  uint32_t task = 0;
  std::string name;
  uid_t uid = 0;
};
Result<std::string> expand_pattern(const std::string& pattern, const PatternValues& values);
// The output file's pattern, given or by default.
std::string output_pattern(const JobSpec& spec);

}  // namespace tess::batch
