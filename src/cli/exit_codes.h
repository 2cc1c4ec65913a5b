// What `tess` exits with (docs/man/tess.1). `tess run` becomes its command; 125, 126 and 127 are
// what other such programs use.
#pragma once

namespace tess::cli {

enum ExitCode {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kNoDaemon = 3,      // tessd does not run, or may not be asked
  kNotPermitted = 4,  // not the caller's process
  kUnknown = 5,       // no such process or node
  kRefused = 6,       // cannot move, for a reason that was told
  kUnavailable = 7,   // node down, or nobody answers now
  kRunFailed = 125,   // run: not started, for Tessera's reasons
  kNotExecutable = 126,
  kNotFound = 127,
};

}  // namespace tess::cli
