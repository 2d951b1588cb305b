#include "tools/server/stop_signals.h"

#include <signal.h>
#include <unistd.h>

#include <thread>

namespace ds4 {
namespace {

constexpr int kExitInterrupted = 130;

}  // namespace

StopSignals::StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([set, state = state_] {
    int signal = 0;
    while (sigwait(&set, &signal) == 0) {
      if (!state->serving.exchange(false)) _exit(kExitInterrupted);
      state->asked.release();
    }
  }).detach();
}

}  // namespace ds4
