// JobSpec as one line of JSON: what the control API takes and what the registry keeps.
#include <nlohmann/json.hpp>

#include "batch/job_spec.h"
#include "wire/agent_process.h"

namespace tess::batch {
namespace {

using nlohmann::json;

constexpr size_t kMaxGroups = 65536;
constexpr size_t kMaxLimits = 64;

// Words joined by zero bytes, as hex: they need not be UTF-8.
std::string hex_words(const std::vector<std::string>& words) {
  std::string joined;
  for (const std::string& word : words) {
    joined += word;
    joined.push_back('\0');
  }
  return wire::to_hex(joined);
}

// Reads members; remembers the first that is not what it should be.
class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {}

  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }
  void flag(const char* key, bool& value) {
    if (const json* found = find(key)) {
      found->is_boolean() ? void(value = found->get<bool>()) : wrong(key);
    }
  }
  template <typename T>
  void number(const char* key, T& value) {
    const json* found = find(key);
    if (found == nullptr) {
      return;
    }
    const bool fits = std::is_floating_point_v<T> ? found->is_number()
                      : std::is_signed_v<T>       ? found->is_number_integer()
                                                  : found->is_number_unsigned();
    fits ? void(value = found->get<T>()) : wrong(key);
  }
  void text(const char* key, std::string& value) {
    if (const json* found = find(key)) {
      found->is_string() ? void(value = found->get<std::string>()) : wrong(key);
    }
  }
  void hex(const char* key, std::string& value) {
    std::string digits;
    text(key, digits);
    value = wire::from_hex(digits);
    if (value.size() * 2 != digits.size()) {
      wrong(key);
    }
  }
  void words(const char* key, std::vector<std::string>& value) {
    std::string joined;
    hex(key, joined);
    if (!joined.empty() && joined.back() != '\0') {
      wrong(key);
      return;
    }
    for (size_t start = 0; start < joined.size();) {
      const size_t end = joined.find('\0', start);
      value.push_back(joined.substr(start, end - start));
      start = end + 1;
    }
  }
  void wrong(const char* key) {
    if (wrong_.empty()) {
      wrong_ = key;
    }
  }
  const std::string& wrong() const { return wrong_; }

 private:
  const json& object_;
  std::string wrong_;
};

void read_lists(Reader& reader, JobSpec& spec) {
  if (const json* avoid = reader.find("avoid"); avoid != nullptr && avoid->is_array()) {
    for (const json& node : *avoid) {
      node.is_string() ? spec.avoid.push_back(node.get<std::string>()) : reader.wrong("avoid");
    }
  }
  if (const json* after = reader.find("after"); after != nullptr && after->is_array()) {
    for (const json& one : *after) {
      if (!one.is_object() || !one.contains("job") || !one["job"].is_number_unsigned()) {
        reader.wrong("after");
        continue;
      }
      const auto any = one.find("any");
      spec.after.push_back(
          {one["job"].get<uint64_t>(), any != one.end() && any->is_boolean() && any->get<bool>()});
    }
  }
}

void read_owner(Reader& reader, JobSpec& spec) {
  reader.number("uid", spec.uid);
  reader.number("gid", spec.gid);
  const json* groups = reader.find("groups");
  if (groups != nullptr && groups->is_array() && groups->size() <= kMaxGroups) {
    for (const json& group : *groups) {
      group.is_number_unsigned() ? spec.groups.push_back(group.get<gid_t>())
                                 : reader.wrong("groups");
    }
  }
  const json* limits = reader.find("limits");
  if (limits != nullptr && limits->is_array() && limits->size() <= kMaxLimits) {
    for (const json& pair : *limits) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_unsigned() ||
          !pair[1].is_number_unsigned()) {
        reader.wrong("limits");
        continue;
      }
      spec.limits.emplace_back(pair[0].get<uint64_t>(), pair[1].get<uint64_t>());
    }
  }
}

}  // namespace

std::string encode(const JobSpec& spec) {
  json after = json::array();
  for (const After& one : spec.after) {
    after.push_back({{"job", one.job}, {"any", one.any}});
  }
  const json text = {{"name", spec.name},
                     {"command", hex_words(spec.command)},
                     {"script", wire::to_hex(spec.script)},
                     {"array", spec.array},
                     {"cpus", spec.cpus},
                     {"memory_bytes", spec.memory_bytes},
                     {"after", std::move(after)},
                     {"priority", spec.priority},
                     {"held", spec.held},
                     {"requeue", spec.requeue},
                     {"node", spec.node},
                     {"node_id", spec.node_id},
                     {"home", spec.home},
                     {"stay", spec.stay},
                     {"cpu_bound", spec.cpu_bound},
                     {"avoid", spec.avoid},
                     {"input", wire::to_hex(spec.input)},
                     {"output", wire::to_hex(spec.output)},
                     {"error", wire::to_hex(spec.error)},
                     {"append", spec.append},
                     {"environment", hex_words(spec.environment)},
                     {"directory", wire::to_hex(spec.directory)},
                     {"umask", spec.umask},
                     {"uid", spec.uid},
                     {"gid", spec.gid},
                     {"groups", spec.groups},
                     {"limits", spec.limits}};
  return text.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<JobSpec> decode(const std::string& text) {
  const json object = text.size() > kMaxSpec ? json() : json::parse(text, nullptr, false);
  if (!object.is_object()) {
    return fail(ErrorKind::kBadInput, "a job is one JSON object of at most {} MiB", kMaxSpec >> 20);
  }
  Reader reader(object);
  JobSpec spec;
  reader.text("name", spec.name);
  reader.words("command", spec.command);
  reader.hex("script", spec.script);
  reader.text("array", spec.array);
  reader.number("cpus", spec.cpus);
  reader.number("memory_bytes", spec.memory_bytes);
  reader.number("priority", spec.priority);
  reader.flag("held", spec.held);
  reader.flag("requeue", spec.requeue);
  reader.text("node", spec.node);
  reader.text("node_id", spec.node_id);
  reader.flag("home", spec.home);
  reader.flag("stay", spec.stay);
  reader.flag("cpu_bound", spec.cpu_bound);
  reader.hex("input", spec.input);
  reader.hex("output", spec.output);
  reader.hex("error", spec.error);
  reader.flag("append", spec.append);
  reader.words("environment", spec.environment);
  reader.hex("directory", spec.directory);
  reader.number("umask", spec.umask);
  read_lists(reader, spec);
  read_owner(reader, spec);
  if (!reader.wrong().empty()) {
    return fail(ErrorKind::kBadInput, "the job's '{}' makes no sense", reader.wrong());
  }
  return spec;
}

}  // namespace tess::batch
