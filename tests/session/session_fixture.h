#pragma once

// The vocabulary of the embedded model, which has merges. Lives as long as the program.

#include "text/tokenizer.h"

namespace ds4::test {

const Tokenizer& mini_tokenizer();

}  // namespace ds4::test
