#pragma once

// The words of the tool-call markup, shared by the writer and the parser. Tags look like
//   <D tool_calls>  <D invoke name="NAME">  <D parameter name="KEY" string="true|false">VALUE</D parameter>
// without the space, where D is the control token ControlToken::kDsml. Nothing is escaped: a value ends at the first
// parameter closer. Constants only, any thread.

#include <string_view>

namespace ds4 {

inline constexpr std::string_view kDsmlBlock = "tool_calls";
inline constexpr std::string_view kDsmlInvoke = "invoke";
inline constexpr std::string_view kDsmlParameter = "parameter";
inline constexpr std::string_view kDsmlName = "name";
inline constexpr std::string_view kDsmlString = "string";
// The parameter that holds what a call says where that is no JSON object.
inline constexpr std::string_view kWholeArguments = "arguments";

}  // namespace ds4
