#pragma once

// The model that a run measures, from a file or made in memory, on a backend. Also what it took to get there.

#include <cstdint>
#include <memory>
#include <string>

#include "backends/backend.h"
#include "base/clock.h"
#include "base/error.h"
#include "model/cost.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "tools/bench/bench_options.h"

namespace ds4 {

struct Subject {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;  // null: no vocabulary
  std::unique_ptr<Steering> steering;    // null: no directions
  SteeringSettings steering_settings;
  std::string name;
  std::string recipe;  // of a synthetic model
  ModelCost cost;
  ChatFormat chat_format = ChatFormat::kPreview;
  int64_t make_us = 0;  // of a synthetic model
  int64_t save_us = 0;
  int64_t load_us = 0;  // opening, checking and binding

  const Hyperparams& hyperparams() const { return model->hyperparams; }
  int expert_bits() const;  // of the experts' gates, rounded down
};

Result<Subject> load_subject(const SubjectOptions& options, const Clock& clock);

}  // namespace ds4
