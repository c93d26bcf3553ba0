"""Settings: the service's limits and places. Every number has its unit in its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medrail.config import EngineName, PacsConfig

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Megabytes = Annotated[float, Field(gt=0)]
ORIGIN = r"^https?://[A-Za-z0-9.\-]+(:\d{1,5})?$"


class Settings(BaseModel):
    """How much the service accepts, how much it does at a time, and where it writes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_upload_mb: Megabytes = Field(512, description="largest request, MiB")
    max_megavoxels: Megabytes = Field(
        512, description="largest image as its header declares it, millions of values; looked at before decoding"
    )
    threads: Count = Field(0, description="threads of one inference; 0: as measured, one or all cores")
    engine: EngineName = Field("auto", description="what runs the networks; as `serve.engine`")
    workers: Count = Field(0, description="requests decoded and answered at a time; 0: one a core")
    queue: Count = Field(32, description="requests that may wait beyond those; the next one is told to come back (429)")
    max_json_mb: Megabytes = Field(32, description="largest JSON part of an inference request (/v2) or its answer, MiB")
    upload_timeout_s: Seconds = Field(300, description="longest time that one upload may take")
    upload_idle_s: Seconds = Field(30, description="longest pause within an upload")
    drain_s: Seconds = Field(30, description="how long requests in work may go on after the service was told to stop")
    # Observed: the logs, the metrics, the drift.
    log_dir: Path | None = Field(None, description="folder of audit.jsonl and service.jsonl; none: only standard error")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least that service.jsonl and standard error tell; the audit log is always whole"
    )
    log_to_stderr: bool = True
    log_file_mb: Megabytes = Field(10, description="size at which service.jsonl is rotated, MiB")
    log_files: Annotated[int, Field(ge=1)] = Field(10, description="files of service.jsonl that are kept")
    audit_file_mb: Megabytes = Field(50, description="size at which audit.jsonl is rotated, MiB")
    audit_files: Annotated[int, Field(ge=1)] = Field(40, description="files of audit.jsonl that are kept")
    metrics: bool = Field(True, description="whether there is /metrics")
    drift_window: Annotated[int, Field(ge=10)] = Field(
        1000, description="the last answers of each process that drift is measured over"
    )
    drift_least: Annotated[int, Field(ge=10)] = Field(100, description="answers below which no drift is told")
    temp_dir: Path | None = Field(
        None, description="folder below which uploads lie while they are answered; none: the system's"
    )

    # Safety
    max_archive_files: Annotated[int, Field(ge=1)] = Field(10_000, description="most files of a zip of DICOM")
    max_archive_mb: Megabytes = Field(2048, description="largest zip of DICOM, unpacked, MiB")

    # Jobs, and several files in one request
    job_workers: Count = Field(0, description="jobs in work at a time; 0: one for two cores")
    jobs: Annotated[int, Field(ge=1)] = Field(
        16, description="jobs in work or waiting; the next one is told to come back"
    )
    max_jobs_per_key: Count = Field(8, description="jobs of one key that have not ended; 0: any number")
    jobs_kept: Annotated[int, Field(ge=1)] = Field(
        64, description="ended jobs that are kept; the oldest one goes first"
    )
    job_keep_s: Seconds = Field(900, description="how long an ended job and its result are kept")
    job_wait_s: Annotated[float, Field(ge=0)] = Field(
        10, description="how long a request for a volume waits for its answer before it gets a job instead"
    )
    jobs_dir: Path | None = Field(
        None, description="folder of jobs that several processes of one service share; none: each its own"
    )
    max_batch_files: Annotated[int, Field(ge=1)] = Field(64, description="most files of one request for several")
    # Runtime: processes, batches, versions.
    processes: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="processes that answer; more pay off only where HTTP itself is what takes the time"
    )
    batching: Literal["auto", "on", "off"] = Field(
        "auto", description="compute what waits together: where it is measured to be quicker, wherever it works, never"
    )
    largest_batch: Annotated[int, Field(ge=1, le=256)] = Field(16, description="images that are computed together")
    wait_s: Seconds = Field(60, description="longest time that a request waits for its turn at the network, then 503")
    watch_s: Seconds = Field(1, description="pause between two looks at a models folder and at the state file")
    keep_versions: Annotated[int, Field(ge=1)] = Field(
        3, description="newest versions of each model that are kept loaded, besides those that requests may go to"
    )
    default_model: str = Field("", description="name of the model that answers unnamed requests; empty: the first")
    state_dir: Path | None = Field(
        None, description="folder of serving.json (pins, canaries); none: the models folder, else the log's"
    )
    # Safety: keys, rates, connections.
    host: str | None = Field(None, description="address that is listened on, set by `serve`; none: in this process")
    open: bool | None = Field(None, description="whether no key is needed; none: only where `host` is this machine's")
    key_file: Path | None = Field(None, description="keys of `medrail key add`; none: there are none")
    rate_per_s: Annotated[float, Field(ge=0)] = Field(
        100, description="requests a second of one key, or of one other address without keys; 0: any number"
    )
    rate_burst: Annotated[int, Field(ge=1)] = Field(200, description="of them at once")
    max_requests_per_key: Count = Field(64, description="requests of one key in work or waiting; 0: any number")
    cors_origins: tuple[Annotated[str, Field(pattern=ORIGIN)], ...] = Field(
        (), description="web sites whose pages may call, as https://pacs.example.org"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="host names by which it may be called, besides this machine's own; empty: while it listens"
        " there and needs no key, those alone; else any",
    )
    request_timeout_s: Seconds = Field(900, description="longest time until an answer begins, upload included")
    header_timeout_s: Seconds = Field(10, description="longest time that the head of a request may take")
    stall_timeout_s: Seconds = Field(60, description="longest time that a client may not take its answer")
    max_header_kb: Megabytes = Field(32, description="largest head of a request, KiB")
    max_connections: Annotated[int, Field(ge=1)] = Field(2000, description="connections of one process")
    max_connections_per_address: Count = Field(256, description="of one other address; 0: any number")
    tls_cert: Path | None = Field(None, description="certificate chain, PEM; with it the service speaks HTTPS")
    tls_key: Path | None = Field(None, description="its private key, PEM, without a password")

    # The PACS
    pacs: PacsConfig = PacsConfig()

    @property
    def max_upload_bytes(self) -> int:
        """The largest request body in bytes."""
        return int(self.max_upload_mb * MEBIBYTE)

    @property
    def max_json_bytes(self) -> int:
        """The largest JSON part of an inference request or answer in bytes."""
        return int(self.max_json_mb * MEBIBYTE)

    @property
    def max_values(self) -> int:
        """The largest number of values (channels x voxels) of an image."""
        return int(self.max_megavoxels * 1e6)
