#pragma once

// Which source a program was built from. The .cc file is written by the build (cmake/version.cmake).

namespace ds4 {

extern const char* const kVersion;  // "0.1.0"
extern const char* const kCommit;   // "1a2b3c4d", "-dirty" behind it when files differ; empty outside a repository

}  // namespace ds4
