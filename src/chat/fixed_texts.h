#pragma once

// The words that DeepSeek's encoder puts around a request, byte for byte. The model was trained on them: a changed
// space changes answers and invalidates caches. In the tools block <think>, </think> and the DSML marker are control
// tokens (SegmentBuilder::add_template). Constants only, any thread.

#include <string_view>

namespace ds4 {

extern const std::string_view kMaximumEffortText;        // preview "max", 0731 "high"
extern const std::string_view kBeyondMaximumEffortText;  // 0731 "max"

extern const std::string_view kToolsBlockHead;  // then one schema per line
extern const std::string_view kToolsBlockTail;

extern const std::string_view kResponseFormatHead;  // then the JSON text

}  // namespace ds4
