// tess lab: a whole cluster of virtual nodes on one machine. Nodes are made of namespaces (network,
// mount, pid, uts, ipc) and joined by a bridge in a network namespace of the lab's own; nothing of
// the machine's network, mounts or files is changed.
//
//   tess lab up [N] [--name LAB] [--cpus F] [--memory SIZE] [--rate BITS] [--tessd PROGRAM]
//   [--json] tess lab down | status | start NODE | stop NODE | kill NODE      [--name LAB] tess lab
//   exec [--name LAB] [--host-files] NODE COMMAND… tess lab list
//
// Everything about a running lab hangs on its keeper process: when that and its supervisor end,
// however they end, nothing is left.
#pragma once

namespace tess::lab {

// argv[0] is what the user typed to get here ("tess lab"); argv[1] the subcommand. Returns the exit
// status; `exec` that of the command (it does not return if the command died of a signal: this
// process then dies of the same). Call from a process with one thread.
int main(int argc, char** argv);

}  // namespace tess::lab
