#pragma once

// OpenAI's Responses: POST /v1/responses in, a response object or the stream of events that builds it out, and what is
// kept of them for later requests. docs/server_api.md lists every field, item and event. Parsing reads the store only;
// a sink writes its answer from the engine thread and stores it before the client sees its end.

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "engine/request.h"
#include "server/api.h"
#include "server/http_message.h"
#include "server/openai_responses_store.h"
#include "server/openai_responses_tools.h"
#include "server/sealed_text.h"

namespace ds4 {

// One per server; outlives every request that uses it.
struct ResponsesMemory {
  ResponseStore store;
  TextSealer sealer;
};

// What an answer has from its request.
struct ResponsesPlan {
  std::string id;
  std::string model;
  int64_t created_s = 0;
  std::string settings;  // the members of the response object that repeat the request: a JSON object
  ResponsesTools tools;
  std::vector<StoredItemPtr> input;  // only with is_stored
  bool is_stored = true;
  bool with_summary = false;
  bool with_sealed_reasoning = false;
};

struct ResponsesRequest : ApiRequest {
  ResponsesPlan plan;  // all but id and created_s
};

std::variant<ResponsesRequest, ApiError> parse_responses_request(std::string body, const ServedModel& served,
                                                                 ResponsesMemory& memory);

std::shared_ptr<AnswerSink> make_responses_stream(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory,
                                                  std::shared_ptr<Responder> responder);
std::shared_ptr<AnswerSink> make_responses_answer(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory,
                                                  std::shared_ptr<Responder> responder);

// A whole stream that says why there is no answer. Some clients understand that only in a stream.
std::string failed_responses_stream(ResponsesPlan plan, const ApiError& error);

}  // namespace ds4
