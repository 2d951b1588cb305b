#include "tools/cli/interrupt.h"

#include <signal.h>

#include "base/check.h"

namespace ds4 {
namespace {

// A signal handler has no other way to reach anything: the one mutable object with static lifetime.
std::atomic<std::atomic<bool>*> interrupted{nullptr};
static_assert(std::atomic<std::atomic<bool>*>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

void on_interrupt(int) {
  if (std::atomic<bool>* flag = interrupted.load()) flag->store(true);
}

}  // namespace

InterruptGuard::InterruptGuard(std::atomic<bool>& flag) {
  CHECK(interrupted.exchange(&flag) == nullptr, "two interrupt guards");
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
}

InterruptGuard::~InterruptGuard() {
  signal(SIGINT, SIG_DFL);
  interrupted.store(nullptr);
}

}  // namespace ds4
