#include "base/error.h"

namespace ds4 {

const ErrorCodeInfo& error_code_info(ErrorCode code) {
  static constexpr ErrorCodeInfo kInvalidArgument{"invalid_argument", 400, 2};
  static constexpr ErrorCodeInfo kNotFound{"not_found", 404, 1};
  static constexpr ErrorCodeInfo kCorrupt{"corrupt", 500, 1};
  static constexpr ErrorCodeInfo kUnsupported{"unsupported", 400, 1};
  static constexpr ErrorCodeInfo kIo{"io", 500, 1};
  static constexpr ErrorCodeInfo kOutOfMemory{"out_of_memory", 503, 1};
  static constexpr ErrorCodeInfo kContextLength{"context_length", 400, 1};
  static constexpr ErrorCodeInfo kBusy{"busy", 429, 1};
  static constexpr ErrorCodeInfo kCancelled{"cancelled", 499, 1};
  static constexpr ErrorCodeInfo kInternal{"internal", 500, 1};
  switch (code) {
    case ErrorCode::kInvalidArgument: return kInvalidArgument;
    case ErrorCode::kNotFound: return kNotFound;
    case ErrorCode::kCorrupt: return kCorrupt;
    case ErrorCode::kUnsupported: return kUnsupported;
    case ErrorCode::kIo: return kIo;
    case ErrorCode::kOutOfMemory: return kOutOfMemory;
    case ErrorCode::kContextLength: return kContextLength;
    case ErrorCode::kBusy: return kBusy;
    case ErrorCode::kCancelled: return kCancelled;
    case ErrorCode::kInternal: return kInternal;
  }
  return kInternal;
}

Error with_context(Error error, std::string_view context) {
  error.message = fmt::format("{}: {}", context, error.message);
  return error;
}

Result<void> ProblemList::to_result(ErrorCode code, std::string_view subject) const {
  if (problems_.empty()) return {};
  std::string message = fmt::format("{}: {} problem{}", subject, problems_.size(), problems_.size() == 1 ? "" : "s");
  for (const std::string& problem : problems_) message += "\n  " + problem;
  return Error{code, std::move(message)};
}

}  // namespace ds4
