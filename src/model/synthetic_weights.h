#pragma once

// Whole models of random weights in memory, of any shape and types, made at the speed of memory: for benchmarks, which
// need the published model's sizes but not its checkpoint. Every matrix is filled with runs drawn at random from a
// small pool of quantised values: they are valid in every type, have the variance 1/row that keeps activations near
// one, and lie in memory of their own, so no cache profits. Vectors, token tables and small matrices hold the values of
// synth-v1 (synthetic.h). The same shape and types give the same bytes, whatever the threads.

#include <memory>
#include <string>
#include <string_view>

#include "backends/backend.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "gguf/reader.h"
#include "model/synthetic.h"

namespace ds4 {

// "flash" (43 layers), "flash:N" (its first N layers), "mini" (the embedded model), "mini:N".
Result<SyntheticShape> named_synthetic_shape(std::string_view name);

// What write_synthetic_model would write, as an opened file. Its memory comes from the backend, which must outlive it.
Result<std::unique_ptr<GgufFile>> make_synthetic_file(const Hyperparams& hyperparams, const SyntheticFile& description,
                                                      Backend& backend, ThreadPool& threads);

// The same file with its large matrices nowhere in memory: a generator makes their bytes where they are wanted, the
// same as make_synthetic_file's.
Result<std::unique_ptr<GgufFile>> make_generated_file(const Hyperparams& hyperparams, const SyntheticFile& description);

// Writes the metadata and tensors of `file` under `path`.
Result<void> save_gguf_file(const GgufFile& file, const std::string& path);

}  // namespace ds4
