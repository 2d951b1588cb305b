#include <utility>

#include "chat/parsed_output.h"

namespace ds4 {
namespace {

using test::Call;
using test::kBlock;
using test::kBlockEnd;
using test::Output;
using test::parameter;
using test::parse;
using test::parse_content;
using test::parse_whole;
using test::Stream;

struct Malformed {
  std::string output;
  std::string content;  // what is text of it
  std::vector<Call> calls;
  bool ended_by_eos = true;
};

Call call_of(const std::string& name, const std::string& arguments) { return {name, arguments, arguments}; }

// Nothing that the model wrote is lost, and no call loses what it says, wherever the bytes are cut.
TEST(DsmlRecovery, MalformedBlocksAreRecoveredOrText) {
  const std::string f = "<｜DSML｜invoke name=\"f\">";
  const std::string end = "</｜DSML｜invoke>";
  const std::string open_value = "<｜DSML｜parameter name=\"b\" string=\"true\">half";
  const std::string block(kBlock);
  const std::string block_end(kBlockEnd);
  const Call whole = call_of("f", R"({"a": "1"})");
  const std::string a = parameter("a", "1");
  const std::vector<Malformed> cases{
      // Closed, without any call.
      {"Hi\n\n" + block + "\nno tags\n" + block_end, "Hi\n\n" + block + "\nno tags\n" + block_end, {}},
      {block + a + block_end, block + a + block_end, {}},
      {block + "<｜DSML｜invoke>" + a + end + block_end + "x", block + "<｜DSML｜invoke>" + a + end + block_end, {}},
      {"Hi\n" + block + " \n" + block_end, "Hi", {}},
      // Arguments in other words.
      {block + f + "\n{\"a\": [1, 2]}\n" + end + block_end, "", {call_of("f", R"({"a": [1, 2]})")}},
      {block + f + "ls -l \"x\" < y" + end + block_end, "", {call_of("f", R"({"arguments": "ls -l \"x\" < y"})")}},
      {block + f + "[1]" + block_end, "", {call_of("f", R"({"arguments": "[1]"})")}},
      {block + f + "<｜DSML｜parameter string=\"true\">x</｜DSML｜parameter>" + end + block_end,
       "",
       {call_of("f", R"({"arguments": "x"})")}},
      {block + f + "<｜DSML｜arg>x</｜DSML｜arg>" + end + block_end,
       "",
       {call_of("f", R"({"arguments": "<｜DSML｜arg>x</｜DSML｜arg>"})")}},
      {block + f + " \n" + end + block_end, "", {call_of("f", "{}")}},
      // Ended inside the block: only closers are missing.
      {block + f + a, "", {whole}},
      {block + f + a + "\n</｜DSML｜inv", "", {whole}},
      {block + f + a + end + "\n</｜DSML｜tool_calls", "", {whole}},
      {block + "\n", "", {}},
      // More is missing.
      {"Hi\n" + block + "\n<｜DSML｜invoke na", "Hi\n" + block + "\n<｜DSML｜invoke na", {}},
      {block + f + a + end + "\n" + f + open_value, f + open_value, {whole, {"f", R"({"b": "half)", {}}}},
      {block + f + open_value, block + f + open_value, {{"f", R"({"b": "half)", {}}}},
      {"Hi\n\n<｜DSML｜tool_c", "Hi\n\n<｜DSML｜tool_c", {}},
      // Cut off: what is not whole is left out.
      {block + f + a + "\n", "", {{"f", R"({"a": "1")", {}}}, false},
      {"Hi\n" + block + "\n<｜DSML｜invoke na", "Hi", {}, false},
  };
  for (const Malformed& malformed : cases) {
    const Stream stream{malformed.output, malformed.ended_by_eos};
    const Output output = parse_whole({.tools_enabled = true}, stream);
    EXPECT_EQ(output.content, malformed.content) << malformed.output;
    EXPECT_EQ(output.calls, malformed.calls) << malformed.output;
    const FinishReason natural = output.complete_calls().empty() ? FinishReason::kStop : FinishReason::kToolCalls;
    EXPECT_EQ(output.finish, malformed.ended_by_eos ? natural : FinishReason::kLength) << malformed.output;
    for (size_t cut = 1; cut < malformed.output.size(); ++cut) {
      bool is_first = true;
      const auto size = [&] { return std::exchange(is_first, false) ? cut : std::string::npos; };
      ASSERT_EQ(parse({.tools_enabled = true}, stream, size), output) << malformed.output << " cut at " << cut;
    }
    ASSERT_EQ(parse({.tools_enabled = true}, stream, [] { return size_t{1}; }), output) << malformed.output;
  }
}

TEST(DsmlRecovery, ABlockThatIsTextEndsAtAStopString) {
  const std::string text = fmt::format("{}never b stop c{}", kBlock, kBlockEnd);
  EXPECT_EQ(parse_content(text, {"stop"}).content, std::string(kBlock) + "never b ");
}

}  // namespace
}  // namespace ds4
