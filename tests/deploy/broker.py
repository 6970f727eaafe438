"""The broker of docker-compose.yml as a plain process, with the accounts that its tests use."""

import os
from pathlib import Path

from tests import tools
from tests.servers import Server, accepts

ROOT = Path(__file__).resolve().parent.parent.parent
USERS = {"ingest": "i", "deliver": "d", "simulator": "s", "display": "y"}
DEVICES = {"truck-01": "t1", "monitor.7": "m7"}


class ComposeBroker(Server):
    """Mosquitto as deploy/mosquitto/entrypoint.sh starts it."""

    name = "mosquitto"

    def __init__(self, directory: Path, certificates: Path | None = None, client_certificates: str = "") -> None:
        super().__init__(directory)
        self.port, self.tls_port = tools.free_port(), tools.free_port()
        (directory / "run").mkdir(exist_ok=True)
        self.environment = {
            **{f"VITALANE_{user.upper()}_PASSWORD": password for user, password in USERS.items()},
            "VITALANE_DEVICE_PASSWORDS": " ".join(f"{device}:{password}" for device, password in DEVICES.items()),
            "VITALANE_MQTT_CLIENT_CERTIFICATES": client_certificates,
            "VITALANE_MOSQUITTO_CONFIG": str(ROOT / "deploy/mosquitto"),
            "VITALANE_MOSQUITTO_RUN": str(directory / "run"),
            "VITALANE_MOSQUITTO_DATA": str(directory),
            "VITALANE_MOSQUITTO_CERTS": str(certificates or directory),
            "VITALANE_MQTT_ADDRESS": "127.0.0.1",
            "VITALANE_MQTT_PORT": str(self.port),
            "VITALANE_MQTT_TLS_PORT": str(self.tls_port),
            "PATH": os.pathsep.join([str(tools.find_mosquitto().parent), str(tools.find_mosquitto_passwd().parent), os.environ["PATH"]]),
        }

    def command(self) -> list[str]:
        return ["env", *(f"{name}={value}" for name, value in self.environment.items()), "sh", str(ROOT / "deploy/mosquitto/entrypoint.sh")]

    def answers(self) -> bool:
        return accepts(self.port) and ("certfile" not in self.configuration or accepts(self.tls_port))

    @property
    def configuration(self) -> str:
        return (self.directory / "run/mosquitto.conf").read_text()
