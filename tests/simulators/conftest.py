import pytest

from tests.simulators.listening import Listener


@pytest.fixture
def broker(start_mosquitto):
    return start_mosquitto()


@pytest.fixture
def listen():
    open_ones = []

    def start(broker, **options):
        open_ones.append(Listener(broker, **options))
        return open_ones[-1]

    yield start
    for listener in open_ones:
        listener.close()
