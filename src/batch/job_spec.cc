#include "batch/job_spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>

#include "base/size.h"

namespace tess::batch {
namespace {

constexpr double kMaxCpus = 65535;
constexpr int kMaxPriority = 1000;
constexpr size_t kMaxName = 255;

tl::unexpected<Error> bad(const std::string& what) {
  return fail(ErrorKind::kBadInput, "{}", what);
}

Result<uint64_t> job_number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value == 0) {
    return bad("'" + text + "' is not a job's number");
  }
  return value;
}

Result<> add_after(JobSpec& spec, const std::string& text, bool any) {
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    TESS_TRY_ASSIGN(const uint64_t job, job_number(text.substr(start, end - start)));
    spec.after.push_back({job, any});
    start = end + 1;
  }
  return {};
}

Result<> set_cpus(JobSpec& spec, const std::string& text) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), spec.cpus);
  if (error != std::errc() || end != text.data() + text.size() || !(spec.cpus > 0)) {
    return bad("--cpu is a number of CPUs, not '" + text + "'");
  }
  return {};
}

Result<> set_priority(JobSpec& spec, const std::string& text) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), spec.priority);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return bad("--priority is a whole number, not '" + text + "'");
  }
  return {};
}

using Setter = Result<> (*)(JobSpec&, const std::string&);

// Options with a value, by their long name.
const std::map<std::string, Setter>& valued() {
  static const std::map<std::string, Setter> table = {
      {"--name", [](JobSpec& s, const std::string& v) { return s.name = v, Result<>(); }},
      {"--on", [](JobSpec& s, const std::string& v) { return s.node = v, Result<>(); }},
      {"--input", [](JobSpec& s, const std::string& v) { return s.input = v, Result<>(); }},
      {"--output", [](JobSpec& s, const std::string& v) { return s.output = v, Result<>(); }},
      {"--error", [](JobSpec& s, const std::string& v) { return s.error = v, Result<>(); }},
      {"--avoid",
       [](JobSpec& s, const std::string& v) { return s.avoid.push_back(v), Result<>(); }},
      {"--cpu", set_cpus},
      {"--priority", set_priority},
      {"--after", [](JobSpec& s, const std::string& v) { return add_after(s, v, false); }},
      {"--after-any", [](JobSpec& s, const std::string& v) { return add_after(s, v, true); }},
      {"--array",
       [](JobSpec& s, const std::string& v) {
         s.array = v;
         auto parsed = parse_array(v);
         return parsed ? Result<>()
                       : Result<>(fail_with(std::move(parsed.error()), "--array '{}'", v));
       }},
      {"--memory",
       [](JobSpec& s, const std::string& v) {
         s.memory_bytes = parse_size(v);
         return s.memory_bytes != 0
                    ? Result<>()
                    : Result<>(bad("--memory is a size like 512M or 2G, not '" + v + "'"));
       }},
      {"--chdir", [](JobSpec& s, const std::string& v) { return s.directory = v, Result<>(); }},
  };
  return table;
}

const std::map<std::string, bool JobSpec::*>& flags() {
  static const std::map<std::string, bool JobSpec::*> table = {
      {"--home", &JobSpec::home},           {"--stay", &JobSpec::stay},
      {"--cpu-bound", &JobSpec::cpu_bound}, {"--hold", &JobSpec::held},
      {"--requeue", &JobSpec::requeue},     {"--append", &JobSpec::append},
  };
  return table;
}

const std::map<std::string, std::string>& short_names() {
  static const std::map<std::string, std::string> table = {
      {"-n", "--on"},   {"-a", "--array"}, {"-o", "--output"}, {"-e", "--error"},
      {"-J", "--name"}, {"-c", "--cpu"},   {"-m", "--memory"}};
  return table;
}

// Takes the option at `at` and moves on.
Result<> take_option(const std::vector<std::string>& words, size_t& at, JobSpec& spec) {
  std::string word = words[at++];
  if (const auto full = short_names().find(word); full != short_names().end()) {
    word = full->second;
  }
  if (const auto flag = flags().find(word); flag != flags().end()) {
    spec.*(flag->second) = true;
    return {};
  }
  const size_t equals = word.find('=');
  const auto option = valued().find(word.substr(0, equals));
  if (option == valued().end()) {
    return bad("unknown option '" + word + "'");
  }
  if (equals != std::string::npos) {
    return option->second(spec, word.substr(equals + 1));
  }
  if (at == words.size()) {
    return bad("option " + word + " needs a value");
  }
  return option->second(spec, words[at++]);
}

// Words as a shell would split them, as far as quotes and backslashes go.
Result<std::vector<std::string>> split_words(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool inside = false;
  char quote = '\0';
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote != '\0' && c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
      inside = true;
    } else if (c == '\\' && quote != '\'' && i + 1 < line.size()) {
      word.push_back(line[++i]);
      inside = true;
    } else if (quote == '\0' && (c == ' ' || c == '\t')) {
      if (inside) {
        words.push_back(std::exchange(word, {}));
      }
      inside = false;
    } else if (quote == '\0' && c == '#' && !inside) {
      break;  // a comment
    } else {
      word.push_back(c);
      inside = true;
    }
  }
  if (quote != '\0') {
    return bad(fmt::format("the quote {} is not closed", quote));
  }
  if (inside) {
    words.push_back(word);
  }
  return words;
}

// The options of one line of a job file.
Result<> take_line(const std::string& options, JobSpec& spec) {
  TESS_TRY_ASSIGN(const auto words, split_words(options));
  for (size_t at = 0; at < words.size();) {
    if (words[at].empty() || words[at][0] != '-' || words[at] == "--") {
      return bad("'" + words[at] +
                 "' is not an option; a job file's #TESS lines have options only");
    }
    TESS_TRY(take_option(words, at, spec));
  }
  return {};
}

bool has_nul(const std::string& text) {
  return text.find('\0') != std::string::npos;
}

}  // namespace

bool needs_value(const std::string& word) {
  const auto full = short_names().find(word);
  return valued().contains(full == short_names().end() ? word : full->second);
}

Result<Parsed> parse_options(const std::vector<std::string>& words) {
  Parsed parsed;
  size_t at = 0;
  while (at < words.size() && !words[at].empty() && words[at][0] == '-' && words[at] != "-") {
    if (words[at] == "--") {
      parsed.command_follows = true;
      ++at;
      break;
    }
    TESS_TRY(take_option(words, at, parsed.spec));
  }
  parsed.rest.assign(words.begin() + static_cast<long>(at), words.end());
  return parsed;
}

Result<JobSpec> parse_job_file(const std::string& text, const std::string& path,
                               const std::vector<std::string>& given) {
  if (text.size() > kMaxScript) {
    return fail(ErrorKind::kBadInput, "{}: a job file has at most {} KiB", path, kMaxScript >> 10);
  }
  if (!text.starts_with("#!")) {
    return fail(ErrorKind::kBadInput,
                "{}:1: a job file is a script: its first line names the program that runs it, for "
                "example #!/bin/sh (to run a command, write -- before it)",
                path);
  }
  JobSpec spec;
  size_t number = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string line = text.substr(start, end - start);
    start = end + 1;
    ++number;
    if (!line.starts_with("#TESS")) {
      continue;
    }
    if (line.size() > 5 && line[5] != ' ' && line[5] != '\t') {
      return fail(ErrorKind::kBadInput, "{}:{}: after #TESS comes a space and then options", path,
                  number);
    }
    if (auto taken = take_line(line.substr(5), spec); !taken) {
      return fail_with(std::move(taken.error()), "{}:{}", path, number);
    }
  }
  for (size_t at = 0; at < given.size();) {
    TESS_TRY(take_option(given, at, spec));
  }
  spec.script = text;
  if (spec.name.empty()) {
    spec.name = path.substr(path.rfind('/') + 1);
  }
  return spec;
}

Result<> check(const JobSpec& spec) {
  if (spec.command.empty() && spec.script.empty()) {
    return bad("there is no command");
  }
  if (spec.script.size() > kMaxScript) {
    return bad("the job file is too large");
  }
  if (spec.name.empty() || spec.name.size() > kMaxName) {
    return bad(fmt::format("a job's name has 1 to {} characters", kMaxName));
  }
  if (!spec.array.empty()) {
    TESS_TRY(parse_array(spec.array));
  }
  if (!(spec.cpus > 0 && spec.cpus <= kMaxCpus)) {
    return bad(fmt::format("CPUs are a number up to {}", kMaxCpus));
  }
  if (spec.priority < -kMaxPriority || spec.priority > kMaxPriority) {
    return bad(fmt::format("a priority is from {} to {}", -kMaxPriority, kMaxPriority));
  }
  if (spec.directory.empty() || spec.directory[0] != '/') {
    return bad("the directory is not absolute");
  }
  if (spec.home && !spec.node.empty() && spec.node != "home") {
    return bad("--home and --on exclude each other");
  }
  for (const std::string* text : {&spec.input, &spec.output, &spec.error, &spec.directory}) {
    if (has_nul(*text)) {
      return bad("a file's name has a zero byte");
    }
  }
  for (const auto* list : {&spec.command, &spec.environment}) {
    if (std::any_of(list->begin(), list->end(), has_nul)) {
      return bad("a word of the command or its environment has a zero byte");
    }
  }
  const PatternValues any{1, 1, "name", 0};
  for (const std::string* pattern : {&spec.input, &spec.output, &spec.error}) {
    TESS_TRY(expand_pattern(*pattern, any));
  }
  return {};
}

Result<std::string> expand_pattern(const std::string& pattern, const PatternValues& values) {
  std::string text;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      text.push_back(pattern[i]);
      continue;
    }
    const char c = ++i < pattern.size() ? pattern[i] : '\0';
    switch (c) {
      case 'j':
        text += std::to_string(values.job);
        break;
      case 'a':
        text += std::to_string(values.task);
        break;
      case 'n': {
        std::string name = values.name;
        std::replace(name.begin(), name.end(), '/', '_');
        text += name;
        break;
      }
      case 'u':
        text += std::to_string(values.uid);
        break;
      case '%':
        text.push_back('%');
        break;
      default:
        return bad("in the file name '" + pattern +
                   "': after % comes j (job), a (task), n (name), u (user) or %");
    }
  }
  return text;
}

std::string output_pattern(const JobSpec& spec) {
  if (!spec.output.empty()) {
    return spec.output;
  }
  return spec.array.empty() ? "tess-%j.out" : "tess-%j.%a.out";
}

}  // namespace tess::batch
