"""What holds for all tests."""

import signal

import hypothesis

# What nohup, or a shell that starts a command in the background, has it ignore, and with it every program that it starts.
_OFTEN_IGNORED = {signal.SIGHUP: lambda *_: None, signal.SIGINT: signal.default_int_handler, signal.SIGQUIT: lambda *_: None}


def pytest_configure() -> None:
    """Have property tests take their time, and programs that tests start take signals as at a terminal: many tests send them.

    What is caught is not inherited. The tests themselves go on when the terminal of who started them closes.
    """
    # A machine that is busy with something else may take seconds for an example; nothing is timed by that.
    hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("patient")
    for number, handler in _OFTEN_IGNORED.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
