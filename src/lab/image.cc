#include "lab/image.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <map>
#include <sstream>

#include "sys/files.h"
#include "sys/process.h"

namespace tess::lab {
namespace {

constexpr const char* kLoader = "/lib64/ld-linux-x86-64.so.2";
// The first directory that Debian's loader searches without a cache file.
constexpr const char* kLibraryDirectory = "/lib/x86_64-linux-gnu";

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

Result<std::string> own_directory() {
  std::array<char, PATH_MAX> path{};
  const ssize_t n = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (n < 0) {
    return fail_errno("find this program's own path");
  }
  const std::string self(path.data(), static_cast<size_t>(n));
  return self.substr(0, self.rfind('/'));
}

bool executable(const std::string& path) {
  return ::access(path.c_str(), X_OK) == 0;
}

// name -> path, as the loader itself resolves them. A static program has none.
Result<> add_libraries(const std::string& program, std::map<std::string, std::string>& libraries) {
  sys::SpawnOptions options;
  options.argv = {kLoader, "--list", program};
  const auto listed = sys::run_tool(options);
  if (!listed) {
    if (listed.error().message().find("statically linked") != std::string::npos ||
        listed.error().message().find("no PT_DYNAMIC") != std::string::npos) {
      return {};
    }
    return tl::unexpected<Error>(listed.error());
  }
  // "\tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x…)"; lines without => are the vDSO and
  // the loader.
  std::istringstream lines(*listed);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    std::string arrow;
    std::string path;
    words >> name >> arrow >> path;
    if (arrow != "=>") {
      continue;
    }
    if (path.empty() || path[0] != '/') {
      return fail(ErrorKind::kNotPossible, "{} needs {}, which this machine does not have", program,
                  name);
    }
    libraries.emplace(base_name(name), path);
  }
  return {};
}

}  // namespace

Result<std::string> default_tessd() {
  TESS_TRY_ASSIGN(const std::string directory, own_directory());
  const std::string path = directory + "/tessd";
  if (!executable(path)) {
    return fail(ErrorKind::kNotPossible,
                "there is no {}: build it first (ninja tessd), or name a program with --tessd",
                path);
  }
  return path;
}

Result<std::vector<std::string>> node_programs(const std::string& tessd) {
  TESS_TRY_ASSIGN(const std::string directory, own_directory());
  std::vector<std::string> programs{tessd};
  for (const char* name : {"tess", "tessd", "tess-agent"}) {
    const std::string path = directory + "/" + name;
    if (executable(path) && base_name(tessd) != name) {
      programs.push_back(path);
    }
  }
  return programs;
}

Result<> build_image(const std::string& directory, const std::vector<std::string>& programs) {
  const std::string libraries_to = directory + kLibraryDirectory;
  TESS_TRY(sys::make_directories(libraries_to));
  for (const char* each : {"/bin", "/sbin", "/lib64", "/share"}) {
    TESS_TRY(sys::make_directories(directory + each));
  }
  std::map<std::string, std::string> libraries;
  for (const std::string& program : programs) {
    TESS_TRY(add_libraries(program, libraries));
    TESS_TRY(sys::copy_file(program, directory + "/bin/" + base_name(program)));
  }
  for (const auto& [name, path] : libraries) {
    TESS_TRY(sys::copy_file(path, libraries_to + "/" + name));
  }
  return sys::copy_file(kLoader, directory + kLoader);
}

std::string program_in_image(const std::string& program) {
  return "/usr/bin/" + base_name(program);
}

}  // namespace tess::lab
