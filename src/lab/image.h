// The files that a node has: nothing but what tessd needs. Built once for a lab, on the
// supervisor's private tmpfs, and bound read-only into every node but the server, so that 16 nodes
// hold one copy.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace tess::lab {

// Programs of ours that lie beside this one (tess, tessd, tess-agent; those that exist) and `tessd`
// (the path of the program to start in nodes).
Result<std::vector<std::string>> node_programs(const std::string& tessd);

// Where `tessd` is when nobody says: beside this program.
Result<std::string> default_tessd();

// Makes `directory` a /usr for a node: programs in bin, the shared libraries they need where the
// loader looks, the loader.
Result<> build_image(const std::string& directory, const std::vector<std::string>& programs);

// Path of a program of node_programs() inside a node that has the image.
std::string program_in_image(const std::string& program);

}  // namespace tess::lab
