// Requests about many processes at once: those of a job, those that run on a node.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/exit_codes.h"

namespace tess::cli {

// All processes that the cluster manages: an answer to `ps`. A failure has been printed when `code`
// is not kOk.
nlohmann::json all_processes(ExitCode& code);
// Those of one job, named by its id or the end of it (as `tess ps` shows it); an error if that is
// no job, or not one only.
Result<std::vector<nlohmann::json>> processes_of_job(const nlohmann::json& processes,
                                                     const std::string& job);
std::vector<nlohmann::json> processes_on(const nlohmann::json& processes, const std::string& node);

// Asks for each of the processes, several at a time: `request` with its pid and home. A line for
// each failure on standard error. kOk if all went well, else the status of a failure.
ExitCode ask_for_each(const std::vector<nlohmann::json>& processes, const nlohmann::json& request,
                      size_t& done);

}  // namespace tess::cli
