// Settings: the values of placement that `tess set` changes while tessd runs, by name; those that
// were changed are kept in the state directory and hold again after a restart. Each change is
// written before it takes effect; a file that cannot be understood is left alone and told of.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "cluster/placement/policy.h"

namespace tess::node {

class Settings {
 public:
  // "default" as a value takes a change back.
  static constexpr const char* kDefault = "default";

  explicit Settings(std::string state_dir);

  // What was set earlier; an error names the file, and nothing is set then.
  Result<> load();
  // kBadInput: no such name, or a value that makes no sense.
  Result<> set(const std::string& name, const std::string& value);

  // The policy with what was set.
  placement::Policy policy() const;
  // nullopt: as the configuration says.
  std::optional<bool> balance() const;

  // All but balance, as they hold now.
  std::map<std::string, double> numbers() const;
  bool is_set(const std::string& name) const { return chosen_.contains(name); }
  const std::map<std::string, std::string>& chosen() const { return chosen_; }

 private:
  std::string path_;
  std::map<std::string, std::string> chosen_;  // name and value, checked
};

}  // namespace tess::node
