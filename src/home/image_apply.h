// A body comes home: its image is made true in the parked deputy, which then can run natively.
// Worker threads; the session is the caller's while the process is parked. If it fails half way the
// deputy can still go on as a deputy: its own memory means nothing.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "memory/image_stream.h"
#include "stub/session.h"
#include "wire/byte_stream.h"

namespace tess::home {

struct Applied {
  memory::StreamStats stats;
  uint64_t process_cpu_ns = 0;  // that the process has used so far, wherever
};

// The receiving side of the whole stream, after its hello.
Result<Applied> receive_and_apply(wire::ByteStream& stream, pid_t pid, stub::Session& session);

}  // namespace tess::home
