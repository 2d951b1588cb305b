#pragma once

// The only error vocabulary of the project. An operation that can fail because of the outside world
// (file, request, device, disk) returns Result<T>; nothing throws. A message says what failed, where,
// what was expected and what was found. TRY(expr) unwraps a Result or returns its error to the caller.
// Values are immutable after construction and may be moved between threads.

#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"

namespace ds4 {

enum class ErrorCode {
  kInvalidArgument,  // a flag, request field or call parameter is wrong
  kNotFound,         // a file, key, tensor or model does not exist
  kCorrupt,          // a file or message contradicts its own format
  kUnsupported,      // well formed, but this build or backend cannot run it
  kIo,               // the operating system refused
  kOutOfMemory,      // memory or KV pages do not suffice
  kContextLength,    // the prompt does not fit the context
  kBusy,             // a bounded queue is full
  kCancelled,        // the caller went away
  kInternal,         // a device failed, or an invariant of ours broke
};

struct ErrorCodeInfo {
  const char* name;
  int http_status;
  int exit_code;  // 1 runtime, 2 usage
};

// Total over ErrorCode.
const ErrorCodeInfo& error_code_info(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

template <class... Args>
[[nodiscard]] Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

// Puts "context: " in front of the message: where the failure happened, seen from one level up.
[[nodiscard]] Error with_context(Error error, std::string_view context);

template <class T>
class [[nodiscard]] Result {
 public:
  using Value = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Precondition of value(): ok(). Precondition of error(): !ok().
  T& value() & {
    CHECK(ok(), "value() of an error: {}", error().message);
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(ok(), "value() of an error: {}", error().message);
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(ok(), "value() of an error: {}", error().message);
    return std::move(std::get<0>(state_));
  }
  const Error& error() const { return std::get<1>(state_); }
  Error&& take_error() { return std::move(std::get<1>(state_)); }
  T&& take_value() { return std::move(*this).value(); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using Value = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const { return error_; }
  Error&& take_error() { return std::move(error_); }
  void take_value() const {}

 private:
  Error error_;
  bool ok_ = true;
};

// Collects every problem of a validation instead of stopping at the first.
class ProblemList {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    problems_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  bool empty() const { return problems_.empty(); }
  const std::vector<std::string>& problems() const { return problems_; }

  // Ok when empty, else one error whose message is "subject: N problems" and one indented line each.
  Result<void> to_result(ErrorCode code, std::string_view subject) const;

 private:
  std::vector<std::string> problems_;
};

}  // namespace ds4

// Value of a Result, or return its error from the enclosing function.
#define TRY(...)                           \
  __extension__({                          \
    auto ds4_try_result = (__VA_ARGS__);   \
    if (!ds4_try_result.ok()) [[unlikely]] \
      return ds4_try_result.take_error();  \
    ds4_try_result.take_value();           \
  })
