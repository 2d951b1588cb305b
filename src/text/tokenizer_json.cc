#include "text/tokenizer_json.h"

#include <array>
#include <nlohmann/json.hpp>

namespace ds4 {
namespace {

// Not ordered_json: its objects search linearly, which is quadratic for a vocabulary of 128,000 keys.
using Json = nlohmann::json;

constexpr uint64_t kMaxTokens = 1 << 20;
constexpr size_t kMaxMerges = 1 << 22;
constexpr size_t kMaxListed = 5;

// What text/pretokenizer.cc implements.
constexpr std::array<std::string_view, 3> kSplitExpressions{
    R"(\p{N}{1,3})",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
    "\r\n"
    R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
    "\r\n"
    R"(]*|\s*[)"
    "\r\n"
    R"(]+|\s+(?!\S)|\s+)",
};

const Json& member(const Json& object, const char* name) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

bool is_text(const Json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

void check_kind(const Json& root, ProblemList& problems) {
  const Json& model = member(root, "model");
  if (!is_text(member(model, "type"), "BPE")) problems.add("model.type: expected \"BPE\"");
  for (const char* flag : {"byte_fallback", "ignore_merges"}) {
    const Json& value = member(model, flag);
    if (!value.is_null() && value != Json(false)) problems.add("model.{}: expected false", flag);
  }
  const Json& normalizer = member(root, "normalizer");
  if (!normalizer.is_null() && member(normalizer, "normalizers") != Json::array()) {
    problems.add("normalizer: expected none");
  }
  std::vector<std::string> expressions;
  for (const Json& step : member(member(root, "pre_tokenizer"), "pretokenizers")) {
    const Json& expression = member(member(step, "pattern"), "Regex");
    if (expression.is_string()) expressions.push_back(expression.get<std::string>());
  }
  if (!std::equal(expressions.begin(), expressions.end(), kSplitExpressions.begin(), kSplitExpressions.end())) {
    problems.add("pre_tokenizer: expected DeepSeek's three split expressions, found {} others", expressions.size());
  }
}

class TokenCollector {
 public:
  explicit TokenCollector(ProblemList& problems) : problems_(problems) {}

  void add_vocabulary(const Json& vocabulary) {
    if (!vocabulary.is_object()) return problems_.add("model.vocab: expected an object");
    for (const auto& [text, id] : vocabulary.items()) add(text, id, TokenType::kNormal);
  }

  void add_added_tokens(const Json& added_tokens) {
    if (!added_tokens.is_array() && !added_tokens.is_null()) return problems_.add("added_tokens: expected an array");
    for (const Json& token : added_tokens) {
      const Json& content = member(token, "content");
      const Json& special = member(token, "special");
      if (content.is_string()) {
        const bool control = special.is_boolean() && special.get<bool>();
        add(content.get_ref<const std::string&>(), member(token, "id"),
            control ? TokenType::kControl : TokenType::kUserDefined);
      } else {
        complain("added_tokens: a token without content");
      }
    }
  }

  void add_merges(const Json& merges) {
    if (!merges.is_array()) return problems_.add("model.merges: expected an array");
    if (merges.size() > kMaxMerges) return problems_.add("model.merges: {} of at most {}", merges.size(), kMaxMerges);
    for (const Json& merge : merges) {
      if (merge.is_string()) {
        data_.merges.push_back(merge.get<std::string>());
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        data_.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
      } else {
        complain("model.merges: neither \"left right\" nor a pair of texts");
      }
    }
  }

  VocabularyData finish() {
    for (size_t id = 0; id < data_.tokens.size(); ++id) {
      if (data_.token_types[id] == 0) complain(fmt::format("id {} of {} has no token", id, data_.tokens.size()));
    }
    if (n_complaints_ > kMaxListed) problems_.add("{} more problems like these", n_complaints_ - kMaxListed);
    return std::move(data_);
  }

 private:
  void complain(std::string_view problem) {
    if (++n_complaints_ <= kMaxListed) problems_.add("{}", problem);
  }

  // Added tokens come last and may repeat a token of the vocabulary, whose type they then change.
  void add(const std::string& text, const Json& id_value, TokenType type) {
    if (!id_value.is_number_unsigned() || id_value.get<uint64_t>() >= kMaxTokens) {
      return complain(fmt::format("token \"{}\": id is not an integer below {}", text, kMaxTokens));
    }
    const auto id = id_value.get<size_t>();
    if (id >= data_.tokens.size()) {
      data_.tokens.resize(id + 1);
      data_.token_types.resize(id + 1);
    }
    if (data_.token_types[id] != 0 && data_.tokens[id] != text) {
      return complain(fmt::format("id {} names both \"{}\" and \"{}\"", id, data_.tokens[id], text));
    }
    data_.tokens[id] = text;
    data_.token_types[id] = static_cast<int32_t>(type);
  }

  VocabularyData data_;
  ProblemList& problems_;
  size_t n_complaints_ = 0;
};

Result<VocabularyData> read_tokenizer(const Json& root) {
  ProblemList problems;
  check_kind(root, problems);
  TokenCollector collector(problems);
  const Json& model = member(root, "model");
  collector.add_vocabulary(member(model, "vocab"));
  collector.add_added_tokens(member(root, "added_tokens"));
  collector.add_merges(member(model, "merges"));
  VocabularyData data = collector.finish();
  if (!problems.empty()) return problems.to_result(ErrorCode::kUnsupported, "tokenizer.json").take_error();
  return data;
}

}  // namespace

Result<VocabularyData> parse_tokenizer_json(std::string_view json) {
  try {
    return read_tokenizer(Json::parse(json));
  } catch (const Json::exception& error) {
    return make_error(ErrorCode::kCorrupt, "tokenizer.json: {}", error.what());
  }
}

}  // namespace ds4
