#pragma once

// Groups of weights that one step of the schedule uses together. Private to forward.cc, layer_attention.cc and
// layer_ffn.cc.

#include "base/tensor.h"

namespace ds4 {

struct StreamMixer {
  TensorView fn, scale, base;
};

}  // namespace ds4
