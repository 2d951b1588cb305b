#pragma once

// The items of a Responses request as messages: what the client and the model said, in one list without turns. A
// reasoning item belongs to what the model said next; adjacent items of the model are one turn. Items that carry no
// conversation the model could read (calls of tools that run elsewhere, other servers' compactions, unknown types) are
// left out. One per request.

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "chat/message.h"
#include "server/json_fields.h"
#include "server/openai_responses_tools.h"
#include "server/sealed_text.h"
#include "server/system_texts.h"

namespace ds4 {

class ResponsesItems {
 public:
  // All of them must outlive it.
  ResponsesItems(FieldProblems& problems, ResponsesTools& tools, const TextSealer& sealer, bool keeps_volatile_text)
      : problems_(problems), tools_(tools), sealer_(sealer), system_texts_(keeps_volatile_text) {}

  void add_instructions(std::string text) { system_texts_.add({std::move(text)}, messages_); }
  // `path` names the item in problems.
  void add(const JsonValue& item, const std::string& path);
  // After the last one. Leaves the model's turn open if the items end with one.
  std::vector<Message> take_messages();

  // Tools that came as items before anybody spoke: they belong to the request's own. Later ones stand in their place.
  const std::vector<ToolDefinition>& definitions() const { return definitions_; }
  VolatileKinds dropped() const { return system_texts_.dropped(); }

 private:
  void add_message(JsonFields& fields);
  void add_reasoning(JsonFields& fields);
  void add_additional_tools(JsonFields& fields);
  bool add_call(JsonFields& fields, std::string_view type);
  void add_function_call(JsonFields& fields, std::string_view type);
  void add_result(JsonFields& fields, std::string_view type);

  std::vector<ContentPart> parts(JsonFields& fields, std::string_view key);
  std::vector<std::string> texts(JsonFields& fields, std::string_view key);
  std::string tool_list(JsonFields& fields, std::vector<ToolDefinition>& definitions);
  Message& assistant();
  // Before anybody else speaks.
  void flush_reasoning();
  bool has_begun() const;

  FieldProblems& problems_;
  ResponsesTools& tools_;
  const TextSealer& sealer_;
  SystemTexts system_texts_;
  std::vector<Message> messages_;
  std::optional<std::string> reasoning_;
  std::unordered_set<std::string> call_ids_;
  std::vector<ToolDefinition> definitions_;
};

// An item as clients get it back: with an id and a status, and the content of a message as a list of parts.
JsonValue complete_item(JsonValue item);

}  // namespace ds4
