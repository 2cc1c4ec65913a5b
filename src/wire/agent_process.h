// How tessd starts an agent, and what each may rely on (the messages are in wire/node.proto).
//
// Command lines:
//   tess-agent home --job ID --pid PID [--run] [--node NODE]
//   tess-agent host --job ID --home-node NAME --listen-fd 3
// ID is decimal. stdin is /dev/null, stdout and stderr are the agent's log; cwd is /; own session
// (setsid); no signal blocked or ignored. Environment: tessd's own, plus TESS_AGENT_TOKEN (64 hex
// digits) and TESS_AGENT_ADDRESS ("ADDRESS:PORT" of the listening socket) for a host agent. They
// must stay in /proc/PID/environ: a restarted tessd learns them from there. An agent connects to
// agents_socket(), sends Register, gets Registered (with the name of this node), then sends
// JobStatus on every change (and after registering again, if it holds anything). `home --run`: the
// first JobStatus that lists PID means that all its threads are seized; `tess run` waits for it
// before exec. If attaching fails: JobLog with the reason, JobStatus{finished}, exit. A home agent
// that has nothing left to hold (nothing seized, nothing away) sends JobStatus{finished} and exits;
// after SIGTERM it brings everything home and exits.
#pragma once

#include <string>

namespace tess::wire {

inline constexpr const char* kTokenVariable = "TESS_AGENT_TOKEN";
inline constexpr const char* kAddressVariable = "TESS_AGENT_ADDRESS";
inline constexpr size_t kTokenSize = 32;

// $TESS_STATE_DIR or /var/lib/tessera; $TESS_RUN_DIR or /run/tessera; $TESS_CONFIG or
// /etc/tessera/tessera.toml.
std::string state_dir();
std::string run_dir();
std::string config_path();
std::string control_socket();  // run_dir/control.sock
std::string agents_socket();   // run_dir/agents.sock

// "0a1b" from bytes, and back; from_hex gives an empty string for anything that is not pairs of hex
// digits.
std::string to_hex(const std::string& bytes);
std::string from_hex(const std::string& text);

}  // namespace tess::wire
