// Makes a body from a migration stream: checks that this node can run it, spawns a blank body in
// the sandbox, maps everything at home's addresses, fills it, and leaves it parked and under its
// seccomp filter. On failure nothing is left of it. Straight-line and blocking; on the thread that
// will own the session.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "host/file_content.h"
#include "host/sandbox.h"
#include "host/shared_memory.h"
#include "memory/image_stream.h"
#include "stub/session.h"
#include "wire/byte_stream.h"

namespace tess::wire {
class ProcessImage;
}

namespace tess::host {

struct RestoreServices {
  Sandbox& sandbox;
  FileContent& content;
  SharedMemory& shared;
  uint64_t job;
  bool force_vdso_patch;
};

struct RestoredBody {
  Sandbox::BodyProcess process;
  std::unique_ptr<stub::Session> session;
  memory::StreamStats stats;
};

// `image` is filled with what the stream's header says, also when the restore fails later. With
// nothing_cached no kept file content is used.
Result<RestoredBody> restore(wire::ByteStream& stream, bool nothing_cached,
                             const RestoreServices& services, wire::ProcessImage& image);

// Ends a body at once (by its pidfd) and waits until it is gone.
void end_body(const Sandbox::BodyProcess& process);

}  // namespace tess::host
