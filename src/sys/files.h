// Small files and directories in one call each. Paths are taken as they are: no expansion, no
// magic.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::sys {

// At most `limit` bytes; a larger file is an error, not a truncated answer. Files of /proc and /sys
// work.
Result<std::string> read_file(const std::string& path, size_t limit = 16 << 20);
Result<std::string> read_to_end(const Fd& fd, size_t limit = 16 << 20);
Result<> rewind_file(const Fd& fd);

// Creates or truncates, then writes. The mode holds from the first moment (umask apart), so a key
// is never readable in between.
Result<> write_file(const std::string& path, std::string_view content, mode_t mode = 0644);
// The same by a temporary file and rename: a reader sees the old content or the new, never a part.
Result<> replace_file(const std::string& path, std::string_view content, mode_t mode = 0644);
// Writes to something that exists (a file of /proc, /sys or a cgroup); never creates.
Result<> write_control(const std::string& path, std::string_view content);

// Like mkdir -p. Success if it is there already.
Result<> make_directories(const std::string& path, mode_t mode = 0755);
// Copies content and permission bits of a regular file.
Result<> copy_file(const std::string& from, const std::string& to);
// Removes a file or a whole tree; never leaves the file system it starts on. Success if nothing is
// there.
Result<> remove_tree(const std::string& path);

}  // namespace tess::sys
