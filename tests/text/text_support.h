#pragma once

// What several tests of this folder need: the golden vectors, vocabularies small enough to read, and tokenizers from
// tokenizer.json files that may not be there.

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace ds4::test {

using Json = nlohmann::ordered_json;

// Fails the test when the file is missing.
std::string read_text_file(const std::string& path);
Json read_json_vectors(const std::string& name);
std::vector<Json> read_jsonl_vectors(const std::string& name);

std::string from_hex(std::string_view hex);
std::string to_utf8(const std::vector<char32_t>& code_points);

// Bytes, control tokens, and merges for "hello", " world", "}</", runs of spaces up to 8 and a few letters.
VocabularyData small_vocabulary();

// Null when the path is empty or names no file.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path);

}  // namespace ds4::test
