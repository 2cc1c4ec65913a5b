#include "node/manage_rules.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "sys/files.h"

namespace tess::node {
namespace {

using nlohmann::json;
using Kind = ManageRule::Kind;

constexpr size_t kMost = 256;
constexpr size_t kPatternMost = 1024;
constexpr size_t kLineMost = 4096;  // of a command line, what patterns are compared with
constexpr Kind kKinds[] = {Kind::kUser, Kind::kCgroup, Kind::kCommand, Kind::kAll};

// With * and ? only. Never goes back further than to the last *, so that nobody's pattern can take
// long.
bool matches(const std::string& glob, const std::string& text) {
  size_t in_glob = 0;
  size_t in_text = 0;
  size_t star = std::string::npos;
  size_t mark = 0;
  while (in_text < text.size()) {
    if (in_glob < glob.size() && glob[in_glob] == '*') {
      star = in_glob++;
      mark = in_text;
    } else if (in_glob < glob.size() && (glob[in_glob] == '?' || glob[in_glob] == text[in_text])) {
      ++in_glob;
      ++in_text;
    } else if (star != std::string::npos) {
      in_glob = star + 1;
      in_text = ++mark;
    } else {
      return false;
    }
  }
  return !text.empty() && glob.find_first_not_of('*', in_glob) == std::string::npos;
}

std::string base_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// With a blank the whole command line is meant, with a slash the path of the program, else its name
// (as ps shows it, or of its file, or as it was called).
bool covers_command(const std::string& glob, const Subject& subject) {
  if (glob.find(' ') != std::string::npos) {
    return matches(glob, subject.command_line().substr(0, kLineMost));
  }
  const std::string called = subject.arguments.empty() ? "" : subject.arguments[0];
  if (glob.find('/') != std::string::npos) {
    return matches(glob, subject.exe) || matches(glob, called);
  }
  return matches(glob, subject.name) || matches(glob, base_of(subject.exe)) ||
         matches(glob, base_of(called));
}

bool covers_cgroup(const std::string& path, const Subject& subject) {
  return std::any_of(subject.cgroups.begin(), subject.cgroups.end(), [&](const std::string& group) {
    return group == path || path == "/" || group.starts_with(path + "/");
  });
}

// "/sys/fs/cgroup" before it and slashes after it are what a person types by habit.
std::string normal_cgroup(std::string path) {
  constexpr std::string_view kMount = "/sys/fs/cgroup";
  if (path.starts_with(kMount)) {
    path.erase(0, kMount.size());
  }
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path.starts_with("/") ? path : "/" + path;
}

Result<ManageRule> rule_of(const json& entry) {
  const auto text = [&](const char* key) {
    return entry.contains(key) && entry[key].is_string() ? entry[key].get<std::string>() : "";
  };
  const auto number = [&](const char* key) -> uid_t {
    const bool there = entry.contains(key) && entry[key].is_number_unsigned();
    return there ? entry[key].get<uid_t>() : static_cast<uid_t>(-1);
  };
  const uid_t owner = number("owner");
  const uid_t user = number("user");
  if (owner == static_cast<uid_t>(-1) || user == static_cast<uid_t>(-1)) {
    return fail(ErrorKind::kBadInput, "a rule without owner or user");
  }
  return make_rule(text("kind"), text("pattern"), user, owner);
}

}  // namespace

const char* to_text(Kind kind) {
  switch (kind) {
    case Kind::kUser:
      return "user";
    case Kind::kCgroup:
      return "cgroup";
    case Kind::kCommand:
      return "command";
    case Kind::kAll:
      break;
  }
  return "all";
}

std::string ManageRule::text() const {
  return pattern.empty() ? to_text(kind) : std::string(to_text(kind)) + " " + pattern;
}

Result<ManageRule> make_rule(const std::string& kind, const std::string& pattern, uid_t user,
                             uid_t owner) {
  const auto found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](Kind one) { return kind == to_text(one); });
  if (found == std::end(kKinds)) {
    return fail(ErrorKind::kBadInput, "there is no rule '{}': user, cgroup, command or all", kind);
  }
  if (pattern.size() > kPatternMost || pattern.find('\n') != std::string::npos) {
    return fail(ErrorKind::kBadInput, "that is too long, or more than one line");
  }
  if (pattern.empty() != (*found == Kind::kAll)) {
    return fail(ErrorKind::kBadInput, "'{}' {}", kind,
                pattern.empty() ? "of what? It needs a name" : "takes no name");
  }
  ManageRule rule{*found, pattern, 0, owner};
  if (rule.kind == Kind::kUser) {
    rule.user = user;
  } else if (rule.kind == Kind::kCgroup) {
    rule.pattern = normal_cgroup(pattern);
  }
  return rule;
}

bool covers(const ManageRule& rule, const Subject& subject) {
  if (rule.owner != 0 && !subject.belongs_to(rule.owner)) {
    return false;
  }
  switch (rule.kind) {
    case Kind::kUser:
      return subject.belongs_to(rule.user);
    case Kind::kCgroup:
      return covers_cgroup(rule.pattern, subject);
    case Kind::kCommand:
      return covers_command(rule.pattern, subject);
    case Kind::kAll:
      break;
  }
  return true;
}

Result<> ManageRules::load() {
  std::error_code missing;
  if (!std::filesystem::exists(path_, missing)) {
    return {};
  }
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(path_, 4 << 20));
  const json read = json::parse(text, nullptr, false);
  if (!read.is_object() || !read.contains("rules") || !read["rules"].is_array()) {
    return fail(ErrorKind::kBadInput, "{} has no list of rules", path_);
  }
  std::vector<ManageRule> rules;
  for (const json& entry : read["rules"]) {
    auto rule = entry.is_object() ? rule_of(entry)
                                  : fail(ErrorKind::kBadInput, "a rule that is not an object");
    if (!rule) {
      return fail(ErrorKind::kBadInput, "{}: {}", path_, rule.error().message());
    }
    rules.push_back(std::move(*rule));
  }
  rules_ = std::move(rules);
  return {};
}

Result<> ManageRules::replace(std::vector<ManageRule> rules) {
  json list = json::array();
  for (const ManageRule& rule : rules) {
    list.push_back({{"kind", to_text(rule.kind)},
                    {"pattern", rule.pattern},
                    {"user", rule.user},
                    {"owner", rule.owner}});
  }
  // A command's name need not be UTF-8; such a rule cannot be kept.
  const std::string text =
      json{{"rules", list}}.dump(2, ' ', false, json::error_handler_t::replace);
  TESS_TRY(sys::replace_file(path_, text + "\n"));
  rules_ = std::move(rules);
  return {};
}

Result<> ManageRules::add(const ManageRule& rule) {
  if (std::find(rules_.begin(), rules_.end(), rule) != rules_.end()) {
    return fail(ErrorKind::kNotPossible, "there is that rule already: {}", rule.text());
  }
  if (rules_.size() >= kMost) {
    return fail(ErrorKind::kNotPossible, "there are {} rules already", rules_.size());
  }
  auto rules = rules_;
  rules.push_back(rule);
  return replace(std::move(rules));
}

Result<> ManageRules::remove(const ManageRule& rule, uid_t by) {
  auto rules = rules_;
  const size_t removed = std::erase_if(rules, [&](const ManageRule& one) {
    return one.kind == rule.kind && one.pattern == rule.pattern && (by == 0 || one.owner == by);
  });
  if (removed == 0) {
    return fail(ErrorKind::kNotPossible, "there is no such rule{}: {}", by == 0 ? "" : " of yours",
                rule.text());
  }
  return replace(std::move(rules));
}

const ManageRule* ManageRules::covering(const Subject& subject) const {
  const auto found = std::find_if(rules_.begin(), rules_.end(),
                                  [&](const ManageRule& rule) { return covers(rule, subject); });
  return found == rules_.end() ? nullptr : &*found;
}

}  // namespace tess::node
