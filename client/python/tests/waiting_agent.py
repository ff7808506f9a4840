"""A real agent. A withdrawal waits for a person who never comes; orders do not wait."""

import json
import threading
import time

from .real_agent import KEYS, RealAgent, replaced

ADDRESS = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
# The key of nobody: no private key belongs to it.
APPROVER = (
    "sk-ssh-ed25519@openssh.com "
    "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIBqxbdwmVyZMrgtkRcIPoHRnqIFu3Cm8v2kT4bhx0mDj"
    "AAAABHNzaDo= nobody"
)
WITHDRAWAL = {"coin": "BTC", "network": "BTC", "address": ADDRESS, "amount": "1"}


class WaitingAgent(RealAgent):
    """`destinations` are (asset, network, address) of withdrawals. Each withdrawal waits. `limits`
    is more text for the client's policy.
    """

    def __init__(
        self,
        keys=None,
        scopes=("read", "trade", "withdraw"),
        destinations=(("BTC", "BTC", ADDRESS),),
        limits="",
    ):
        self._destinations, self._limits = destinations, limits
        super().__init__(keys or {name: KEYS[name] for name in ("binance", "okx")}, scopes)

    def _grant(self):
        super()._grant()
        configuration = self.directory / "agent.toml"
        text = replaced(
            configuration.read_text(), "\nscopes = ", f"\n{self._limits}scopes = "
        )
        configuration.write_text(
            text
            + "".join(map(_policy, self._destinations))
            + f'\n[approver.nobody]\nssh_key = "{APPROVER}"\n'
        )

    def pending(self):
        """The ids of the requests that wait."""
        return [
            entry["statement"]["request_id"]
            for entry in json.loads(self._command("--json", "pending"))["pending"]
        ]


def _policy(destination):
    asset, network, address = destination
    return f"""
[[destination]]
label = "where {asset} goes"
asset = "{asset}"
network = "{network}"
address = "{address}"

[transfer."{asset}"]
per_day = "1000"
approvers = [{{ above = "0", count = 1 }}]
"""


def withdraw(agent):
    return agent.sign("binance", "POST", "/sapi/v1/capital/withdraw/apply", WITHDRAWAL)


def until(holds, seconds=10):
    """Waits until `holds()` returns a true value, and returns that value."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError("it never came true")
        time.sleep(0.01)
    return found


class Busy:
    """Threads that ask an agent fifty times a second while the block runs. `asked` has the seconds
    of each question.
    """

    def __init__(self, agent, threads, ask):
        self.asked, self.wrong = [], []
        self._agent, self._ask, self._stop = agent, ask, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._ask(self._agent)
            except Exception as error:
                self.wrong.append(error)
            self.asked.append(time.monotonic() - started)
            self._stop.wait(0.02)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
