"""Kill a busy server with SIGKILL again and again; check each time what the next server finds.

python3 -m tests.benchmarks.durability [--rounds 100] [--seed N]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.local_server import LocalServer, host_processes_of, new_state_dir, running_server, until

WORKERS = 3
LONGEST_ROUND_S = 1.5
FEWEST_ANSWERS = 1


@dataclass
class Busy:
    """What was acknowledged so far, by sandbox, snapshot and volume; changed under `lock`."""

    seed: int
    sandboxes: dict[str, str] = field(default_factory=dict)  # id: what its file holds
    volumes: set[str] = field(default_factory=set)
    snapshots: dict[str, str] = field(default_factory=dict)  # name: what its file holds
    dropped: set[str] = field(default_factory=set)  # snapshots whose deletion was acknowledged
    unclear: set[str] = field(default_factory=set)  # asked to be deleted, not answered
    acknowledged: int = 0
    killed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def work(self, server: LocalServer) -> None:
        """One client: create, write, stop, start and delete until the server is gone."""
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            while True:
                self._one_step(server)

    def _one_step(self, server: LocalServer) -> None:
        with self.lock:
            step = self.random.choice(
                ("create", "create", "volume", "delete", "restart", "snapshot", "drop")
            )
            known = self.random.choice(sorted(self.sandboxes)) if self.sandboxes else None
            if step == "delete" and known is not None:
                del self.sandboxes[
                    known
                ]  # nobody else touches it; until it is answered its fate is open
                self.unclear.add(known)
        if step == "create" or known is None:
            self._create(server)
        elif step == "volume":
            reply = server.request("POST", "/api/volumes", body={"name": f"v{time.monotonic_ns()}"})
            assert reply.status == 200, reply.body
            self._note(lambda: self.volumes.add(reply.json()["id"]))
        elif step == "snapshot":
            self._save(server, known)
        elif step == "drop":
            self._drop(server)
        elif step == "delete":
            reply = server.request("DELETE", f"/api/sandbox/{known}")
            if reply.status == 200:
                self._note(lambda: self.unclear.discard(known))
        else:
            server.request("POST", f"/api/sandbox/{known}/stop")
            server.request("POST", f"/api/sandbox/{known}/start")

    def _save(self, server: LocalServer, known: str) -> None:
        name, text = f"s{time.monotonic_ns()}", self.sandboxes.get(known, "")
        reply = server.request("POST", f"/api/sandbox/{known}/snapshot", body={"name": name})
        if reply.status == 200:
            self._note(lambda: self.snapshots.setdefault(name, text))

    def _drop(self, server: LocalServer) -> None:
        with self.lock:
            name = self.random.choice(sorted(self.snapshots)) if self.snapshots else None
            self.snapshots.pop(name or "", None)  # until it is answered its fate is open
        if name is not None and server.request("DELETE", f"/api/snapshots/{name}").status == 200:
            self._note(lambda: self.dropped.add(name))

    def _create(self, server: LocalServer) -> None:
        reply = server.request("POST", "/api/sandbox", body={})
        assert reply.status == 200, reply.body
        sandbox_id = reply.json()["id"]
        self._note(lambda: self.sandboxes.setdefault(sandbox_id, ""))
        text = f"mark {sandbox_id}"
        if server.exec(sandbox_id, f"echo '{text}' > /home/daytona/mark")["exitCode"] == 0:
            with self.lock:
                if sandbox_id in self.sandboxes:
                    self.sandboxes[sandbox_id] = text

    def _note(self, change: Any) -> None:
        with self.lock:
            change()
            self.acknowledged += 1


def round_of(state: Path, busy: Busy) -> list[str]:
    """Be busy, kill the server at a random moment, start the next one and return what is wrong."""
    before = busy.acknowledged
    with running_server(state) as server:
        clients = [threading.Thread(target=busy.work, args=(server,)) for _ in range(WORKERS)]
        for client in clients:
            client.start()
        until(lambda: busy.acknowledged >= before + FEWEST_ANSWERS, seconds=60)
        time.sleep(busy.random.uniform(0, LONGEST_ROUND_S))
        os.kill(server.pid, signal.SIGKILL)
        for client in clients:
            client.join()
    busy.killed += 1
    with running_server(state) as server:
        wrong = problems(server, busy)
        for sandbox_id in list(busy.sandboxes)[:-4]:  # keep the rounds short
            server.request("DELETE", f"/api/sandbox/{sandbox_id}")
            del busy.sandboxes[sandbox_id]
        for name in list(busy.snapshots)[:-4]:
            server.request("DELETE", f"/api/snapshots/{name}")
            del busy.snapshots[name]
    return wrong


def problems(server: LocalServer, busy: Busy) -> list[str]:
    """Sentences about what a new server should have found otherwise."""
    wrong = []
    if left := host_processes_of(server.state_dir):
        wrong.append(f"processes remain: {left}")
    if str(server.state_dir) in Path("/proc/self/mounts").read_text():
        wrong.append("a mount remains")
    known = {item["id"]: item for item in server.sandboxes()}
    for sandbox_id, text in busy.sandboxes.items():
        if sandbox_id not in known:
            wrong.append(f"sandbox {sandbox_id} is lost")
        elif text and not holds(server, sandbox_id, text):
            wrong.append(f"sandbox {sandbox_id} lost its file")
    volumes = {item["id"] for item in server.request("GET", "/api/volumes").json()}
    wrong += [f"volume {volume} is lost" for volume in busy.volumes - volumes]
    wrong += snapshot_problems(server, busy)
    surplus = {path.name for path in (server.state_dir / "sandboxes").iterdir()} - set(known)
    if surplus:
        wrong.append(f"storage without a sandbox: {sorted(surplus)}")
    if not becomes_empty(server.state_dir / "trash"):
        wrong.append(f"disk is not freed: {sorted(os.listdir(server.state_dir / 'trash'))}")
    return wrong


def snapshot_problems(server: LocalServer, busy: Busy) -> list[str]:
    """Each acknowledged one is listed and one of them gives its files; no other has storage."""
    items = server.request("GET", "/api/snapshots?limit=200").json()["items"]
    known = {item["name"]: item for item in items if not item["general"]}
    wrong = [
        f"snapshot {name} is lost or not active"
        for name in busy.snapshots
        if known.get(name, {}).get("state") != "active"
    ]
    wrong += [f"snapshot {name} came back" for name in busy.dropped & set(known)]
    surplus = {path.name for path in (server.state_dir / "snapshots").iterdir()} - {
        item["id"] for item in known.values()
    }
    if surplus:
        wrong.append(f"storage without a snapshot: {sorted(surplus)}")
    name, text = next(
        ((name, text) for name, text in reversed(busy.snapshots.items()) if text), ("", "")
    )
    if name and name in known:
        sandbox_id = server.create(snapshot=name)["id"]
        if server.exec(sandbox_id, "cat /home/daytona/mark")["result"].strip() != text:
            wrong.append(f"snapshot {name} lost its file")
        server.request("DELETE", f"/api/sandbox/{sandbox_id}")
    return wrong


def becomes_empty(folder: Path) -> bool:
    deadline = time.monotonic() + 20
    while os.listdir(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not os.listdir(folder)


def holds(server: LocalServer, sandbox_id: str, text: str) -> bool:
    if server.request("POST", f"/api/sandbox/{sandbox_id}/start").status != 200:
        return False
    found: str = server.exec(sandbox_id, "cat /home/daytona/mark")["result"]
    server.request("POST", f"/api/sandbox/{sandbox_id}/stop")
    return found.strip() == text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    state, busy, wrong = new_state_dir(), Busy(arguments.seed), 0
    for number in range(arguments.rounds):
        found = round_of(state, busy)
        wrong += len(found)
        print(number, busy.acknowledged, found or "fine", flush=True)
    print(f"{busy.killed} times killed, {busy.acknowledged} changes acknowledged, {wrong} problems")


if __name__ == "__main__":
    main()
