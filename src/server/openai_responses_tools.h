#pragma once

// The tools of a Responses request. The model knows functions only, so every tool becomes one, under a name of its own,
// and calls of it go back in the form that the client declared:
// - function: as it is; inside a namespace its name is NAMESPACE + NAME;
// - custom (free text): a function with one string parameter "input";
// - tool_search that the client executes: a function of that name;
// - tools that only OpenAI's servers can run are left out.
// Built on one thread, then constant.

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/request.h"
#include "server/json_fields.h"

namespace ds4 {

inline constexpr std::string_view kCustomInput = "input";
inline constexpr std::string_view kToolSearchName = "tool_search";

enum class ResponsesToolKind { kFunction, kCustom, kToolSearch };

// As the client calls it.
struct ResponsesTool {
  ResponsesToolKind kind = ResponsesToolKind::kFunction;
  std::string name;
  std::string name_space;
};

// What the model is told of one.
struct ToolDefinition {
  std::string name;
  std::string json;  // of the function
};

class ResponsesTools {
 public:
  // Returns the definitions of those that are new; of equal names the first counts. Precondition: `list` is an array;
  // `path` names it.
  std::vector<ToolDefinition> add(const JsonValue& list, const std::string& path, FieldProblems& problems);

  // Null for a function that was not declared. `name`: the model's.
  const ResponsesTool* find(std::string_view name) const;
  // The model's name for the tool that a client calls so; empty when there is none. An empty name space: any.
  std::string name_of(const ResponsesTool& as_called) const;
  const std::vector<ToolSignature>& signatures() const { return signatures_; }

 private:
  void add_tool(JsonFields fields, const JsonValue& tool, const std::string& name_space);
  void add_function(JsonFields& fields, const JsonValue& tool, const ResponsesTool& as_called);
  void add_custom(JsonFields& fields, const ResponsesTool& as_called);
  void define(const ResponsesTool& as_called, ToolSignature signature, const JsonValue& definition);

  std::unordered_map<std::string, ResponsesTool> by_name_;
  std::vector<ToolSignature> signatures_;
  std::vector<ToolDefinition> added_;
};

}  // namespace ds4
