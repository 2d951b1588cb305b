#pragma once

// The prompt loop: one line is one turn, /commands steer. The conversation is kept: an answer that was stopped stays in
// it as far as it came, a turn that failed leaves no trace. Main thread.

#include "tools/cli/session.h"

namespace ds4 {

// Until the end of the input or /quit. Error: the answers cannot be written any more.
Result<void> run_repl(Session& session);

}  // namespace ds4
