#pragma once

// Whether a JSON value fits a schema, by the keywords of JSON Schema: written apart from the grammar, to test it.

#include <string>

#include <nlohmann/json.hpp>

namespace ds4::test {

// Empty, or what does not fit and where.
std::string schema_violation(const nlohmann::ordered_json& schema, const nlohmann::ordered_json& value,
                             const nlohmann::ordered_json& root);

}  // namespace ds4::test
