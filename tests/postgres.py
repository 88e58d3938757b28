"""A throw-away PostgreSQL server for tests, run by a user who is not root."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUPERUSER = "tester"
PASSWORD = "s3cret-of-the-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTools:
    """Where the server's programs are, and how to run them as somebody who is not root."""

    programs: Path
    prefix: tuple[str, ...]
    owner: pwd.struct_passwd | None


def find_postgres() -> PostgresTools | None:
    """Find the programs on the path or where Debian puts them; None where they, or a user to run them, are absent."""
    found = shutil.which("initdb")
    folders = [str(Path(found).parent)] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not folders:
        return None
    programs = Path(folders[-1])
    if os.geteuid() != 0:
        return PostgresTools(programs=programs, prefix=(), owner=None)
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    owner = users.get("postgres") or users.get("nobody")
    runuser = shutil.which("runuser")
    if owner is None or runuser is None:
        return None
    return PostgresTools(programs=programs, prefix=(runuser, "-u", owner.pw_name, "--"), owner=owner)


@contextmanager
def running_postgres(tools: PostgresTools) -> Iterator[str]:
    """Start a server in a temporary folder and give its SQLAlchemy URL; stop and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bayes_pricing_pg_"))
    data, secret, log = folder / "data", folder / "password", folder / "log"
    secret.write_text(PASSWORD)
    if tools.owner is not None:
        for path in (folder, secret):
            os.chown(path, tools.owner.pw_uid, tools.owner.pw_gid)
    port = _free_port()

    def run(program: str, *arguments: str) -> None:
        command = [*tools.prefix, str(tools.programs / program), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            said = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}{said}")

    try:
        run("initdb", "-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-l", str(log), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{SUPERUSER}:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
