"""Settings: the service's limits and places. Every number has its unit in its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medrail.config import EngineName

MEBIBYTE = 1024 * 1024

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Megabytes = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """How much the service accepts, how much it does at a time, and where it writes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_upload_mb: Megabytes = Field(512, description="largest request, MiB")
    max_megavoxels: Megabytes = Field(
        512, description="largest image as its header declares it, millions of values; looked at before decoding"
    )
    threads: Count = Field(0, description="threads of one inference; 0: all cores")
    engine: EngineName = Field("auto", description="what runs the networks; as `serve.engine`")
    workers: Count = Field(0, description="requests decoded and answered at a time; 0: one a core")
    queue: Count = Field(32, description="requests that may wait beyond those; the next one is told to come back (429)")
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

    @property
    def max_upload_bytes(self) -> int:
        """The largest request body in bytes."""
        return int(self.max_upload_mb * MEBIBYTE)

    @property
    def max_values(self) -> int:
        """The largest number of values (channels x voxels) of an image."""
        return int(self.max_megavoxels * 1e6)
