// Which processes that nobody started under Tessera the cluster may move: the rules of `tess
// manage` on this node. They are kept in the state directory and hold again after a restart; each
// change is written before it takes effect, and a file that cannot be understood is left alone and
// told of. What a rule covers is a pure function of what is known of a process (manage_subject.h).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/manage_subject.h"

namespace tess::node {

struct ManageRule {
  enum class Kind { kUser, kCgroup, kCommand, kAll };
  Kind kind = Kind::kAll;
  std::string pattern;  // the user's name, the group's path, the glob; empty for kAll
  uid_t user = 0;       // kUser: whose processes
  uid_t owner = 0;      // who made it; of anybody but root it covers his own processes only

  bool operator==(const ManageRule&) const = default;
  std::string text() const;  // as it is typed: "user alice"
};

const char* to_text(ManageRule::Kind kind);
// kBadInput: there is no such kind, or it makes no sense with that pattern.
Result<ManageRule> make_rule(const std::string& kind, const std::string& pattern, uid_t user,
                             uid_t owner);
bool covers(const ManageRule& rule, const Subject& subject);

class ManageRules {
 public:
  explicit ManageRules(const std::string& state_dir) : path_(state_dir + "/managed.json") {}

  // An error names the file; then there are no rules.
  Result<> load();
  // kNotPossible: there is that rule already, or there are too many.
  Result<> add(const ManageRule& rule);
  // Root removes what anybody made. kNotPossible: there is no such rule of `by`.
  Result<> remove(const ManageRule& rule, uid_t by);

  const std::vector<ManageRule>& all() const { return rules_; }
  // The first that covers it; null if none does.
  const ManageRule* covering(const Subject& subject) const;

 private:
  Result<> replace(std::vector<ManageRule> rules);

  std::string path_;
  std::vector<ManageRule> rules_;
};

}  // namespace tess::node
