#pragma once

// Whether a schema can be enforced, without a vocabulary: for whoever takes it from a client. Pure functions, any
// thread.

#include <string_view>

#include "base/error.h"

namespace ds4 {

// Of a whole answer. Errors: those of JsonSchemaBuilder; kInvalidArgument when no value fits.
Result<void> check_answer_schema(std::string_view json_schema);
// Of the parameters of a strict tool.
Result<void> check_parameters_schema(std::string_view json_schema);

}  // namespace ds4
