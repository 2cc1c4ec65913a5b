// tess under the names that people of MOSIX and openMosix know: what they typed there, as the words
// of a tess command. What has no counterpart here is refused with the reason and, where there is
// one, the way to get the same. Pure, but for what Lookup is asked.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace tess::cli {

// What a translation may have to know of the cluster.
struct Lookup {
  std::function<Result<std::string>()> this_node;
  std::function<Result<std::string>(const std::string& address)> node_at;
  std::function<Result<bool>(const std::string& node)> is_up;
  std::function<Result<std::string>()> best_other;  // the best node that is not this one
};

struct Translation {
  std::vector<std::string> words;  // of a tess command; or a program's
  bool program = false;  // words are to be executed; "tess" among them stands for this program
};

// All names, for the help and the links.
const std::vector<std::string>& ancestor_names();
bool is_ancestor(const std::string& name);
Result<Translation> translate_ancestor(const std::string& name,
                                       const std::vector<std::string>& arguments,
                                       const Lookup& lookup);

// By asking tessd.
Lookup ask_tessd();

}  // namespace tess::cli
