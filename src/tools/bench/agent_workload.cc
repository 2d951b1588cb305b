#include "tools/bench/agent_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace ds4 {
namespace {

// Bytes in requests of Claude Code 2.1 and Codex CLI 0.169.
constexpr size_t kClaudeSystemBytes = 5600;
constexpr size_t kClaudeToolBytes = 2600;
constexpr size_t kClaudeReminderBytes = 300;
constexpr size_t kClaudeAgentTypesBytes = 6000;
constexpr size_t kCodexSystemBytes = 17000;
constexpr size_t kCodexSkillsBytes = 2100;
constexpr size_t kCodexToolBytes = 2000;
constexpr size_t kCodexPermissionsBytes = 360;
constexpr size_t kCodexEnvironmentBytes = 400;
constexpr size_t kSubAgentSystemBytes = 3000;
constexpr size_t kTitleSystemBytes = 900;
constexpr size_t kSummaryBytes = 3000;
constexpr size_t kPromptBytes = 240;
constexpr size_t kReasoningBytes = 260;
constexpr size_t kFinalBytes = 700;
constexpr size_t kNoteBytes = 180;
// The markup and arguments of a call and of its result.
constexpr size_t kCallBytes = 350;
constexpr size_t kLeastResultBytes = 40;
// Of the prompt limit, above which the history is summed up.
constexpr double kFullShare = 0.85;
constexpr double kMostShare = 0.97;

constexpr std::array<std::string_view, 24> kClaudeTools{
    "Agent",         "Bash",         "CronCreate",   "CronDelete", "CronList",       "Edit",
    "EnterWorktree", "ExitWorktree", "NotebookEdit", "Read",       "ReportFindings", "ScheduleWakeup",
    "SendMessage",   "Skill",        "TaskCreate",   "TaskGet",    "TaskList",       "TaskOutput",
    "TaskStop",      "TaskUpdate",   "WebFetch",     "WebSearch",  "Workflow",       "Write"};
constexpr std::array<std::string_view, 8> kCodexTools{"exec_command", "write_stdin", "request_user_input",
                                                      "view_image",   "spawn_agent", "get_goal",
                                                      "create_goal",  "update_goal"};
constexpr std::array<std::string_view, 6> kSubAgentTools{"Bash", "Read", "Edit", "Write", "WebFetch", "WebSearch"};

std::string joined(std::string_view a, std::string_view b) { return fmt::format("{}\n\n{}", a, b); }

}  // namespace

std::optional<AgentKind> agent_kind_from_name(std::string_view name) {
  if (name == "claude-code") return AgentKind::kClaudeCode;
  if (name == "codex") return AgentKind::kCodex;
  if (name == "chat") return AgentKind::kChat;
  return std::nullopt;
}

std::string_view request_kind_name(RequestKind kind) {
  switch (kind) {
    case RequestKind::kMain: return "main";
    case RequestKind::kTitle: return "title";
    case RequestKind::kSubAgent: return "sub-agent";
    case RequestKind::kCompaction: return "compaction";
    case RequestKind::kAfterEdit: return "after-edit";
  }
  return "";
}

size_t content_bytes(const std::vector<Message>& messages) {
  size_t n = 0;
  for (const Message& message : messages) {
    n += message.content.size() + message.reasoning_content.size();
    for (const std::string& tool : message.tools) n += tool.size();
    for (const ToolCall& call : message.tool_calls) n += call.name.size() + call.arguments.size();
  }
  return n;
}

AgentClient::AgentClient(const WorkloadOptions& options, int32_t client)
    : options_(options),
      client_(client),
      text_(splitmix64_mix(options.seed + (static_cast<uint64_t>(client) + 1) * kGoldenGamma)) {
  begin();
}

size_t AgentClient::bytes(double n) const { return static_cast<size_t>(n * options_.scale); }

// The same texts for all clients of a workload.
Message AgentClient::head(std::string_view purpose, size_t n_bytes) const {
  AgentText shared(options_.seed ^ fnv1a64(purpose));
  return {.role = Role::kSystem, .content = joined(purpose, shared.prose(bytes(static_cast<double>(n_bytes))))};
}

std::vector<std::string> AgentClient::make_tools() const {
  AgentText shared(options_.seed ^ fnv1a64("tools"));
  std::vector<std::string> tools;
  if (options_.kind == AgentKind::kClaudeCode) {
    for (const std::string_view name : kClaudeTools) tools.push_back(shared.tool(name, bytes(kClaudeToolBytes)));
  } else if (options_.kind == AgentKind::kCodex) {
    for (const std::string_view name : kCodexTools) tools.push_back(shared.tool(name, bytes(kCodexToolBytes)));
  }
  return tools;
}

void AgentClient::begin() {
  switch (options_.kind) {
    case AgentKind::kClaudeCode:
      head_ =
          head("You are an interactive agent that helps users with software engineering tasks.", kClaudeSystemBytes);
      // Another one for every first prompt.
      head_.content = fmt::format("x-anthropic-billing-header: cc_version=2.1.197.{}; cc_entrypoint=sdk-cli;\n{}",
                                  text_.hex(3), head_.content);
      break;
    case AgentKind::kCodex:
      head_ = head("You are a coding agent running in the Codex CLI.", kCodexSystemBytes);
      head_.content = joined(head_.content, head("<skills_instructions>", kCodexSkillsBytes).content);
      break;
    case AgentKind::kChat: head_ = {.role = Role::kSystem, .content = "You are a helpful assistant."}; break;
  }
  head_.tools = make_tools();
  messages_ = {head_};
}

void AgentClient::add_user_message() {
  const bool is_first = messages_.size() == 1;
  prompt_ = text_.prose(bytes(kPromptBytes));
  if (options_.kind == AgentKind::kCodex) {
    const std::string_view tag = is_first ? "<environment_context>" : "<permissions instructions>";
    const size_t n = is_first ? kCodexEnvironmentBytes : kCodexPermissionsBytes;
    messages_.push_back({.role = Role::kUser, .content = head(tag, n).content});
    messages_.push_back({.role = Role::kUser, .content = prompt_});
    return;
  }
  if (options_.kind == AgentKind::kClaudeCode && is_first) {
    messages_.push_back(
        {.role = Role::kUser, .content = joined(head("<system-reminder>", kClaudeReminderBytes).content, prompt_)});
    messages_.push_back({.role = Role::kUser,
                         .content = head("Available agent types for the Agent tool:", kClaudeAgentTypesBytes).content});
    return;
  }
  messages_.push_back({.role = Role::kUser, .content = prompt_});
}

AgentRequest AgentClient::request(RequestKind kind, std::vector<Message> messages, Message answer) const {
  return {.kind = kind,
          .turn = turn_,
          .conversation = {.messages = std::move(messages)},
          .thinking_mode = answer.reasoning_content.empty() ? ThinkingMode::kChat : ThinkingMode::kThinking,
          .answer = std::move(answer)};
}

AgentRequest AgentClient::title_request() {
  return request(RequestKind::kTitle,
                 {head("Write a title of a few words for this conversation.", kTitleSystemBytes),
                  {.role = Role::kUser, .content = "Generate a title for this conversation:"},
                  {.role = Role::kUser, .content = prompt_}},
                 {.role = Role::kAssistant, .content = text_.prose(20)});
}

// A turn that calls `tool`; without one, the last of a user's request.
Message AgentClient::make_answer(std::string_view tool) {
  Message answer{.role = Role::kAssistant, .reasoning_content = text_.prose(bytes(kReasoningBytes))};
  if (tool.empty()) {
    answer.content = text_.prose(bytes(kFinalBytes));
    return answer;
  }
  if (text_.number(0, 2) == 0) answer.content = text_.prose(bytes(kPromptBytes) / 3);
  std::string arguments;
  switch (text_.number(0, 2)) {
    case 0:
      arguments = fmt::format(R"({{"command": "grep -n {} {}", "description": "{} {}"}})", text_.name(), text_.path(),
                              text_.word(), text_.word());
      break;
    case 1:
      arguments = fmt::format(R"({{"file_path": "{}", "offset": {}, "limit": {}}})", text_.path(), text_.number(0, 900),
                              text_.number(10, 400));
      break;
    default:
      arguments =
          fmt::format(R"({{"edits": [{{"path": "{}", "line": {}, "text": "{}"}}, {{"path": "{}", "line": {}}}]}})",
                      text_.path(), text_.number(1, 900), text_.name(), text_.path(), text_.number(1, 900));
  }
  answer.tool_calls.push_back(
      {.id = fmt::format("call_{}_{}", client_, ++n_calls_), .name = std::string(tool), .arguments = arguments});
  return answer;
}

Message AgentClient::make_result(const Message& call, size_t n_bytes) {
  std::string content = text_.listing(n_bytes);
  if (options_.kind == AgentKind::kCodex) {
    content = fmt::format("Chunk ID: {}\nWall time: 0.{:04} seconds\nProcess exited with code 0\nOutput:\n{}",
                          text_.hex(6), text_.number(0, 9999), content);
  }
  return {.role = Role::kTool, .content = std::move(content), .tool_call_id = call.tool_calls.front().id};
}

int32_t AgentClient::prompt_tokens() const {
  if (options_.count_tokens) return options_.count_tokens({.messages = messages_});
  return static_cast<int32_t>(static_cast<double>(content_bytes(messages_)) / options_.bytes_per_token);
}

// So much that the last prompt is as long as it should.
size_t AgentClient::result_bytes() {
  const int32_t n_left = std::max(options_.turns - turn_, 1);
  const double n_users = static_cast<double>(n_left) / options_.user_every;
  // What the turns in between will add beside results, in bytes.
  const double answers = n_left * static_cast<double>(bytes(kReasoningBytes) + kCallBytes) +
                         n_users * static_cast<double>(bytes(kFinalBytes + kPromptBytes));
  const double left = options_.target_tokens - n_prompt_tokens_ - answers / options_.bytes_per_token;
  if (!was_compacted_) mean_result_tokens_ = std::max(left / std::max(n_left - n_users, 1.0), 0.0);
  double drawn = mean_result_tokens_ * options_.bytes_per_token * text_.number(40, 160) / 100;
  if (options_.max_prompt_tokens > 0) {
    // The request that sums it up must still fit.
    const double room = kMostShare * options_.max_prompt_tokens - n_prompt_tokens_;
    const auto answer = static_cast<double>(bytes(kReasoningBytes + kFinalBytes + kPromptBytes) + kCallBytes);
    drawn = std::min(drawn, room * options_.bytes_per_token - answer);
  }
  return std::max(kLeastResultBytes, static_cast<size_t>(std::max(drawn, 0.0)));
}

void AgentClient::insert_note() {
  // Before the assistant's turn in the middle, as a text that joins the user's turn there.
  size_t at = messages_.size() / 2;
  while (at + 1 < messages_.size() && messages_[at].role != Role::kAssistant) ++at;
  messages_.insert(messages_.begin() + static_cast<std::ptrdiff_t>(at),
                   {.role = Role::kUser, .content = joined("<system-reminder>", text_.prose(kNoteBytes))});
}

void AgentClient::compact() {
  const std::vector<Message> before = messages_;
  messages_.push_back({.role = Role::kUser, .content = "Sum up the conversation so far for whoever goes on with it."});
  // Codex leaves the tools out of this request, and so changes the prompt from there on.
  if (options_.kind == AgentKind::kCodex) messages_.front().tools.clear();
  Message summary{.role = Role::kAssistant,
                  .content = text_.prose(bytes(kSummaryBytes)),
                  .reasoning_content = text_.prose(bytes(kReasoningBytes))};
  groups_.push_back({request(RequestKind::kCompaction, messages_, summary)});
  messages_ = {head_};
  add_user_message();
  was_compacted_ = true;
  messages_.push_back({.role = Role::kUser, .content = joined("Summary of what was done before:", summary.content)});
}

void AgentClient::plan_sub_agents() {
  Message sub_head = head("You are an agent that does one part of a task.", kSubAgentSystemBytes);
  AgentText shared(options_.seed ^ fnv1a64("sub-agent tools"));
  for (const std::string_view name : kSubAgentTools)
    sub_head.tools.push_back(shared.tool(name, bytes(kClaudeToolBytes)));
  std::vector<std::vector<Message>> agents;
  for (int32_t i = 0; i < options_.n_sub_agents; ++i)
    agents.push_back({sub_head, {.role = Role::kUser, .content = text_.prose(bytes(kPromptBytes))}});
  for (int32_t turn = 1; turn <= options_.sub_agent_turns; ++turn) {
    std::vector<AgentRequest> group;
    for (std::vector<Message>& messages : agents) {
      const Message answer = make_answer(turn == options_.sub_agent_turns ? "" : "Read");
      group.push_back(request(RequestKind::kSubAgent, messages, answer));
      messages.push_back(answer);
      if (!answer.tool_calls.empty()) messages.push_back(make_result(answer, bytes(1500)));
    }
    groups_.push_back(std::move(group));
  }
}

void AgentClient::plan_turn() {
  ++turn_;
  const bool is_asked = (turn_ - 1) % options_.user_every == 0;
  if (is_asked) add_user_message();
  n_prompt_tokens_ = prompt_tokens();
  if (options_.max_prompt_tokens > 0 &&
      n_prompt_tokens_ > kFullShare * static_cast<double>(options_.max_prompt_tokens)) {
    compact();
    n_prompt_tokens_ = prompt_tokens();
  }
  const bool is_edited = turn_ == options_.edit_turn && messages_.size() > 3;
  if (is_edited) insert_note();

  const bool ends = turn_ == options_.turns || turn_ % options_.user_every == 0;
  const bool is_chat = options_.kind == AgentKind::kChat;
  const bool has_agents = options_.n_sub_agents > 0 && turn_ == options_.sub_agent_turn && !ends && !is_chat;
  constexpr std::array<std::string_view, 3> kClaudeCalls{"Bash", "Read", "Edit"};
  std::string_view tool =
      options_.kind == AgentKind::kCodex ? "exec_command" : kClaudeCalls[static_cast<size_t>(text_.number(0, 2))];
  if (has_agents) tool = options_.kind == AgentKind::kCodex ? "spawn_agent" : "Agent";
  Message answer = make_answer(ends || is_chat ? "" : tool);
  if (is_chat) answer.content = text_.prose(result_bytes());

  groups_.push_back({request(is_edited ? RequestKind::kAfterEdit : RequestKind::kMain, messages_, answer)});
  if (is_asked && options_.titles) groups_.back().push_back(title_request());
  if (has_agents) plan_sub_agents();
  messages_.push_back(answer);
  if (is_chat) {
    if (!ends) messages_.push_back({.role = Role::kUser, .content = text_.prose(bytes(kPromptBytes))});
  } else if (!ends) {
    messages_.push_back(make_result(answer, result_bytes()));
  }
}

std::vector<AgentRequest> AgentClient::next(int32_t last_turn) {
  if (groups_.empty() && turn_ < std::min(options_.turns, last_turn)) plan_turn();
  if (groups_.empty()) return {};
  std::vector<AgentRequest> group = std::move(groups_.front());
  groups_.pop_front();
  return group;
}

}  // namespace ds4
