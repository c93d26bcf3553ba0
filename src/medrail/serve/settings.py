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

    # the PACS (serve/pacs)
    pacs: PacsConfig = PacsConfig()

    @property
    def max_upload_bytes(self) -> int:
        """The largest request body in bytes."""
        return int(self.max_upload_mb * MEBIBYTE)

    @property
    def max_values(self) -> int:
        """The largest number of values (channels x voxels) of an image."""
        return int(self.max_megavoxels * 1e6)
