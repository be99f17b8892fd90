"""A clock that stands still until somebody sleeps on it."""

from enclave_cc.transport.patience.deadline import Deadline


class FakeClock:
    def __init__(self):
        self.now = 0.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def never(self):
        return Deadline(clock=self)

    def after(self, seconds):
        return Deadline.after(seconds, clock=self)
