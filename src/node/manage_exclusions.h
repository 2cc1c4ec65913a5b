// Which processes are never taken hold of though a rule of `tess manage` covers them: what the
// machine itself and people's sessions depend on, and what cannot or must not be moved. Pure
// functions.
#pragma once

#include <string>

#include "node/manage_rules.h"
#include "node/manage_subject.h"

namespace tess::node {

// Empty: nothing speaks against it. Else a sentence ("it is …"). `rule` is the one that covers it:
// a service of the system is left alone unless the rule names it.
std::string excluded_because(const Subject& subject, const ManageRule& rule);

}  // namespace tess::node
