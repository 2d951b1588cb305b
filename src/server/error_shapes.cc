#include "server/error_shapes.h"

#include "server/anthropic_messages.h"

namespace ds4 {

ErrorResponse error_shape_of(const HttpRequest& head) {
  return speaks_anthropic(head) ? ErrorResponse{anthropic_error_response} : ErrorResponse{openai_error_response};
}

}  // namespace ds4
