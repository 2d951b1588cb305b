#pragma once

// Which dialect a request speaks, for errors that are found before its handler is: no key, no such path, the wrong
// method, a server that ends. Pure functions, any thread.

#include "server/http_message.h"
#include "server/service.h"

namespace ds4 {

// Anthropic's for its paths and for whoever sends its version header, else OpenAI's.
ErrorResponse error_shape_of(const HttpRequest& head);

}  // namespace ds4
