#pragma once

// The small endpoints around the model: tokens of texts and conversations, what the server is, whether it takes
// requests, what it counted; and why known paths of the APIs are not there. docs/server_api.md describes them. Any
// thread.

#include <memory>
#include <string_view>

#include "server/http_message.h"
#include "server/service.h"

namespace ds4 {

void serve_tokenize(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
void serve_detokenize(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
void serve_props(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
void serve_ready(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
void serve_metrics(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);

// Of a path that the APIs have and this server does not; empty for all others.
std::string_view absence_reason(std::string_view path);

}  // namespace ds4
