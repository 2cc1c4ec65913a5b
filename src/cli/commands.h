// The commands of `tess`, one file each. A command adds itself to the application: options, help,
// and a callback that sets the exit status.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace tess::cli {

void add_init(CLI::App& app, int& exit_code);
void add_token(CLI::App& app, int& exit_code);
void add_leave(CLI::App& app, int& exit_code);
void add_rotate(CLI::App& app, int& exit_code);
void add_join(CLI::App& app, int& exit_code);
void add_migrate(CLI::App& app, int& exit_code);
void add_ps(CLI::App& app, int& exit_code);
void add_nodes(CLI::App& app, int& exit_code);
void add_why(CLI::App& app, int& exit_code);
void add_bring_home(CLI::App& app, int& exit_code);
void add_log(CLI::App& app, int& exit_code);
void add_best(CLI::App& app, int& exit_code);
void add_node(CLI::App& app, int& exit_code);
// Into `tess node`.
void add_node_rename(CLI::App& node, int& exit_code);
void add_node_expel(CLI::App& node, int& exit_code);
void add_node_admission(CLI::App& node, int& exit_code);
void add_set(CLI::App& app, int& exit_code);
void add_manage(CLI::App& app, int& exit_code);
void add_kill(CLI::App& app, int& exit_code);
void add_top(CLI::App& app, int& exit_code);
void add_batch(CLI::App& app, int& exit_code);
void add_version(CLI::App& app, int& exit_code);
// For the help page only: `run` and `lab` take their arguments themselves, as what follows may look
// like options.
void add_run(CLI::App& app);
void add_lab(CLI::App& app);

// `tess run` after the word run. Returns only if the command could not be started.
int run_command(std::vector<std::string> arguments);
// `tess batch submit` after the word submit: a command's own options follow it.
int submit_command(const std::vector<std::string>& arguments);
int lab_command(int argc, char** argv);

}  // namespace tess::cli
