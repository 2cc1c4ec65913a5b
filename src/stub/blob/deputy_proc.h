// What the parts of the deputy's /proc share. A text of /proc that was made up for the application
// is a memory file whose name says which file it stands for, so that it can be made anew when it is
// read from its start again, and described as the file that it stands for.
#pragma once

#include "stub/blob/deputy_call.h"

namespace tess::stub {

inline constexpr int kAtFdcwd = -100;
inline constexpr uint64_t kOCloexec = 02000000, kOPath = 010000000;

// Magic number of a descriptor's file system; 0 if it has none.
uint64_t file_system_of(int fd);
inline constexpr uint64_t kHugetlbMagic = 0x958458f6;
// Is this descriptor a file of a proc file system?
bool is_proc(int fd);
// "/proc/self/PLACE/ID" and perhaps "/LAST" into a buffer of 64.
void proc_self_path(char* to, const char* place, uint64_t id, const char* last);
// Which file of which process an open descriptor is.
ProcPath path_of(int fd);
// Our own number in the /proc that is mounted, which may be of an outer pid namespace.
int32_t own_number();

// Path of the file that an open text stands for, with a final zero, into a buffer of
// kTextPathMax. False: the descriptor is something else.
inline constexpr size_t kTextPathMax = 224;
bool text_path(int fd, char* to);
// A memory file for the text of the file that is open as `fd`, or -errno.
long create_text(int fd);
// Opens the file that an open text stands for, with these flags. -errno: it has gone, or may not be
// opened any more.
long open_original(const char* path, uint64_t flags);

// ControlBlock::memory_files: whether a descriptor may be a file of /proc that is not plainly
// home's.
enum MemoryFiles : uint32_t { kFilesNotLookedAt = 0, kFilesNone = 1, kFilesPerhaps = 2 };
bool has_proc_files(Slot* slot);

}  // namespace tess::stub
