#pragma once

// Names everything that decides what KV memory means: the model file (its metadata, tensor directory and samples of its
// bytes), the numeric profile, the layout of rows and pages, and the version of our arithmetic. State that was kept
// under another identity is never used. Pure, any thread; reads some 64 pages of the file.

#include "gguf/reader.h"
#include "model/kv_layout.h"
#include "session/hash.h"

namespace ds4 {

// To be raised when the same file gives other KV rows than before.
inline constexpr uint32_t kArithmeticVersion = 1;

Hash128 model_identity(const GgufFile& file, const KvLayout& layout, NumericProfile profile);

}  // namespace ds4
