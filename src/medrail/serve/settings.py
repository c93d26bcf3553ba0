"""Settings: the service's limits and places. Every number has its unit in its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from medrail.config import EngineName, PacsConfig

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
    log_dir: Path | None = Field(None, description="folder of service.jsonl; none: only standard error")
    log_to_stderr: bool = True
    log_file_mb: Megabytes = Field(10, description="size at which the log file is rotated, MiB")
    log_files: Annotated[int, Field(ge=1)] = Field(10, description="rotated log files that are kept")
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

    # The PACS
    pacs: PacsConfig = PacsConfig()

    @property
    def max_upload_bytes(self) -> int:
        """The largest request body in bytes."""
        return int(self.max_upload_mb * MEBIBYTE)

    @property
    def max_values(self) -> int:
        """The largest number of values (channels x voxels) of an image."""
        return int(self.max_megavoxels * 1e6)
