// tess batch submit: puts a job into the queue of this node.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "batch/job_spec.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "sys/files.h"

namespace tess::cli {
namespace {

using nlohmann::json;

constexpr const char* kHelp =
    "Put a job into the queue: it runs when there is room for it in the cluster\n"
    "Usage: tess batch submit [OPTION]... FILE [ARGUMENT]...\n"
    "       tess batch submit [OPTION]... -- COMMAND [ARGUMENT]...\n\n"
    "FILE is a script that names its interpreter in its first line; lines that begin with\n"
    "`#TESS ` hold options, those of the command line win. The job runs with your ids, groups,\n"
    "limits, umask, environment and directory, and survives a restart of tessd.\n\n"
    "Options:\n"
    "  -J,--name NAME       What the job is called\n"
    "  -a,--array TASKS     Many tasks: 1-100, 1,5,20-40:2, or 1-100%8: at most eight at once\n"
    "  -c,--cpu N           CPUs that a task needs on one node (default 1)\n"
    "  -m,--memory SIZE     Memory that it needs, for example 2G\n"
    "  --after JOB[,JOB]    Start when those have ended well; if one does not, this is cancelled\n"
    "  --after-any JOB      Start when it has ended, however\n"
    "  -o,--output FILE     Standard output and error: %j job, %a task, %n name, %u user\n"
    "                       (default tess-%j.out, of an array tess-%j.%a.out)\n"
    "  -e,--error FILE      Standard error apart\n"
    "  --input FILE         Standard input (default /dev/null)\n"
    "  --append             Do not empty the output files first\n"
    "  --chdir DIRECTORY    Run there\n"
    "  --priority N         Before your other jobs (above 0: root only)\n"
    "  --hold               Not before `tess batch release`\n"
    "  --requeue            If it is lost with its node, run it again; without: it is only told\n"
    "  -n,--on NODE, --home, --stay, --avoid NODE, --cpu-bound   As for `tess run`\n"
    "  --wait               Wait for its end; exit with 0 if all of it went well\n"
    "  --json               Print JSON\n"
    "  -h,--help            This text\n\n"
    "A task finds TESS_JOB_ID, TESS_JOB_NAME, TESS_TASK_ID, TESS_TASK_COUNT, TESS_TASK_FIRST,\n"
    "TESS_TASK_LAST, TESS_TASK_ATTEMPT, TESS_JOB_CPUS and TESS_JOB_MEMORY in its environment.\n\n"
    "Examples:\n"
    "  tess batch submit --array 1-100%8 -- sh -c './render frame.$TESS_TASK_ID'\n"
    "  tess batch submit --cpu 4 --memory 8G simulate.sh big.input\n";

struct Choices {
  bool wait = false;
  bool as_json = false;
  bool help = false;
};

// Takes out what is about this command and not about the job. What follows `--` or the file is not
// looked at.
std::vector<std::string> take_choices(const std::vector<std::string>& arguments, Choices& choices) {
  std::vector<std::string> rest;
  bool value_follows = false;
  bool ours = true;
  for (const std::string& word : arguments) {
    if (ours && !value_follows && (word == "--" || word.empty() || word[0] != '-')) {
      ours = false;
    }
    const bool option = ours && !value_follows;
    if (option && (word == "--wait" || word == "--json" || word == "--help" || word == "-h")) {
      (word == "--wait" ? choices.wait : word == "--json" ? choices.as_json : choices.help) = true;
      continue;
    }
    value_follows = option && batch::needs_value(word);
    rest.push_back(word);
  }
  return rest;
}

Result<std::string> read_job_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return fail(ErrorKind::kBadInput, "{} is a directory", path);
  }
  auto text = sys::read_file(path, batch::kMaxScript + 1);
  if (!text && text.error().sys_errno() == 0) {
    return fail(ErrorKind::kBadInput, "{}: a job file has at most {} KiB", path,
                batch::kMaxScript >> 10);
  }
  return text;
}

Result<batch::JobSpec> spec_of(const std::vector<std::string>& words) {
  TESS_TRY_ASSIGN(auto parsed, batch::parse_options(words));
  batch::JobSpec spec = std::move(parsed.spec);
  if (parsed.rest.empty()) {
    return fail(ErrorKind::kBadInput,
                "a job file, or -- and a command, is missing; see `tess batch submit --help`");
  }
  if (parsed.command_follows) {
    spec.command = std::move(parsed.rest);
    if (spec.name.empty()) {
      spec.name = spec.command[0].substr(spec.command[0].rfind('/') + 1);
    }
  } else {
    const std::string path = parsed.rest[0];
    const auto options = words.end() - static_cast<long>(parsed.rest.size());
    TESS_TRY_ASSIGN(const std::string text, read_job_file(path));
    TESS_TRY_ASSIGN(spec, batch::parse_job_file(text, path, {words.begin(), options}));
    spec.command.assign(parsed.rest.begin() + 1, parsed.rest.end());
  }
  std::error_code error;
  const auto here = std::filesystem::current_path(error);
  if (error) {
    return fail(ErrorKind::kFailed, "the current directory: {}", error.message());
  }
  spec.directory =
      spec.directory.empty() ? here.string() : (here / spec.directory).lexically_normal().string();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    spec.environment.emplace_back(*entry);
  }
  spec.umask = ::umask(0);
  ::umask(static_cast<mode_t>(spec.umask));
  TESS_TRY(batch::check(spec));
  return spec;
}

}  // namespace

int submit_command(const std::vector<std::string>& arguments) {
  Choices choices;
  const auto words = take_choices(arguments, choices);
  if (choices.help) {
    std::fputs(kHelp, stdout);
    return kOk;
  }
  const auto spec = spec_of(words);
  if (!spec) {
    print_error(spec.error().message());
    return spec.error().kind() == ErrorKind::kBadInput ? kUsage : kFailed;
  }
  ExitCode code = kOk;
  json answer = ask({{"op", "batch_submit"}, {"job", json::parse(batch::encode(*spec))}}, code);
  if (code != kOk) {
    return code;
  }
  const auto job = answer.value("job", uint64_t{0});
  if (choices.wait) {
    answer = ask({{"op", "batch_wait"}, {"jobs", {job}}}, code);
    if (code != kOk) {
      return code;
    }
    answer = answer["jobs"].empty() ? json::object() : answer["jobs"][0];
  }
  if (choices.as_json) {
    print_json(answer);
  } else if (!choices.wait) {
    const auto tasks = answer.value("tasks", size_t{1});
    std::printf("job %llu%s\n", static_cast<unsigned long long>(job),
                tasks == 1 ? "" : fmt::format(" ({} tasks)", tasks).c_str());
  }
  return choices.wait && answer.value("state", "") != "done" ? kFailed : kOk;
}

}  // namespace tess::cli
