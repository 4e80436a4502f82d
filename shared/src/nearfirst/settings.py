"""Where everything lives: the settings that every process of the suite shares, from `NEARFIRST_*` variables."""

import json
import os
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field, IPvAnyNetwork, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nearfirst.data.limits import ReadLimits

GIB = 2**30


class Settings(BaseSettings):
    """One suite: its registry, broker and store. What isn't given lies under `home`."""

    model_config = SettingsConfigDict(env_prefix="NEARFIRST_", extra="ignore")

    home: Path = Path(".nearfirst")
    """Folder of an embedded suite."""
    database_url: str = ""
    """SQLAlchemy URL of the registry; default: SQLite in `home`."""
    broker_url: str = ""
    """`redis://...`, or `filesystem:///folder`; default: a folder in `home`."""
    store_url: str = ""
    """Folder or fsspec URL (`s3://bucket/prefix`) of artifacts; default: a folder in `home`."""
    runs_dir: Path = Path()
    """Folder of training runs and their checkpoints, shared by all workers; default: in `home`."""
    data_roots: list[Path] = Field(default_factory=list)
    """Folders that requests may name files in, besides `home`/data and `home`/models."""
    source_hosts: list[str] = Field(default_factory=list)
    """Hosts that remote dataset sources may be read from: a name, or `.domain` for all below it. Empty: any."""
    source_networks: list[IPvAnyNetwork] = Field(default_factory=list)
    """Networks besides the public internet that remote sources may be read from: `["10.3.0.7/32"]` for an object store
    of one's own, `["169.254.169.254/32"]` for the credentials of a cloud instance."""
    source_timeout_s: float = Field(default=3600.0, gt=0)
    """A remote source that isn't read within this time is given up."""
    api_keys: list[SecretStr] = Field(default_factory=list)
    """Keys of the operator, for a small deployment and for service to service: each may do everything, as often as it
    likes. Without these and without keys in the registry, no key is asked for."""
    key_cache_s: float = Field(default=3.0, ge=0)
    """A revoked key ends within this time; a process looks the registry's keys up this often at most."""
    requests_per_s: float = Field(default=100.0, gt=0)
    """A key of the registry may ask so often on average, in each process."""
    request_burst: int = Field(default=200, ge=1)
    """So many requests of a key may come at once."""
    refusals_per_minute: int = Field(default=60, ge=1)
    """Requests with a wrong key that an address may send; further ones are answered 429 without looking the key up."""
    metrics_need_key: bool = False
    """Whether GET /metrics needs a key too."""
    max_upload_bytes: int = 8 * GIB
    """Largest dataset file that POST /datasets takes."""
    max_body_bytes: int = 2**20
    """Largest body of every other request."""
    max_row_bytes: int = Field(default=2**24, ge=1)
    """Longest line of a dataset file."""
    max_document_bytes: int = Field(default=2**28, ge=1)
    """Largest dataset file that is one JSON document, which is read whole; JSON lines have no such limit."""
    max_expanded_bytes: int = Field(default=32 * GIB, ge=1)
    """What the rows of a dataset file may take together, decompressed."""
    max_expansion: float = Field(default=200.0, ge=1)
    """What they may take as a multiple of the file's own size; 64 MiB are always taken."""
    lease_s: float = 30.0
    """A worker that hasn't renewed its lease for so long has lost its run."""
    heartbeat_s: float = 5.0
    """A worker renews its lease this often."""
    redeliver_s: float = 10.0
    """A queued run that no worker claimed is sent again after this time, then twice as long, and so on."""
    sweep_s: float = 2.0
    """The sweeper looks this often."""
    max_lost_leases: int = 3
    """A run whose worker vanished more often than this fails. A new state checkpoint starts the count again."""
    max_crashes: int = Field(default=3, ge=0)
    """A run whose process hung or vanished more often than this fails, counted in the same way."""
    start_timeout_s: float = Field(default=3600.0, gt=0)
    """A training that makes no progress for so long before its first step has ended is taken to hang."""
    step_timeout_s: float = Field(default=1800.0, gt=0)
    """The same after its first step."""
    save_grace_s: float = Field(default=20.0, gt=0)
    """A training that is told to end may take so long to save its state."""
    unservable_s: float = Field(default=300.0, gt=0)
    """A train job that no live training worker could ever serve fails after this time; when none lives, it waits."""
    forget_workers_s: float = Field(default=600.0, gt=0)
    """A worker that wasn't seen for so long is no longer listed."""
    gpus: str | None = None
    """GPUs of this machine that a training worker gives to its jobs, as CUDA_VISIBLE_DEVICES lists them (`0,1`); empty:
    none. None: what `cuda_visible_devices` leaves of those that nvidia-smi finds."""
    cuda_visible_devices: str | None = Field(default=None, validation_alias="CUDA_VISIBLE_DEVICES")
    """The GPUs that this process was given by whoever started it; None: all."""
    cpu_jobs: int | None = Field(default=None, ge=0, le=64)
    """Trainings without a GPU that a training worker runs at a time; None: one when it has no GPU, else none."""
    nodes: int = Field(default=1, ge=1, le=256)
    """Machines of this training worker's node group (docs/adr/0013); 1: it is one machine."""
    node_index: int = Field(
        default=0, ge=0, validation_alias=AliasChoices("NEARFIRST_NODE_INDEX", "JOB_COMPLETION_INDEX", "node_index")
    )
    """Which of them this is; 0 leads. Default: the index of a pod of an indexed Job."""
    node_group: str = Field(default="", max_length=200)
    """Name of the node group, the same on all its machines and on no others."""
    rendezvous: str = Field(default="", pattern=r"^(\S+:[0-9]{1,5})?$")
    """`host:port` of node 0, as all machines of the group reach it; the port must be free there."""
    rendezvous_timeout_s: int = Field(default=300, ge=1)
    """The machines of a group wait so long for each other, and for the run's folder to be seen, when a run begins."""
    trackers: str = Field(default="", pattern=r"^(((tensorboard|mlflow|wandb):[^,]+)(,|$))*$")
    """Where training workers send a run's measurements on to: `tensorboard:/folder,mlflow:URI,wandb:PROJECT`."""
    memory_budget_bytes: int = GIB
    """What similarity may use beyond the embeddings."""
    embedding_shard_rows: int = Field(default=16_384, ge=1)
    """A dataset of more rows is embedded in shards of so many, which any number of workers share."""
    candidate_shard_rows: int = Field(default=262_144, ge=1)
    """A training dataset of more rows is compared with the test set in shards of so many."""
    reward_model: str | None = None
    """The reward model of evaluations that name none: a folder under an allowed root, or a hub id."""
    metrics_max_age_s: float = Field(default=10.0, ge=0)
    """GET /metrics of the API looks into the registry this often at most."""
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port on which a worker serves its metrics to Prometheus, on all addresses; None: it doesn't."""
    otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Collector of traces, as OpenTelemetry names it; None: no spans are sent."""
    log_format: str = Field(default="console", pattern="^(console|json)$")

    @model_validator(mode="after")
    def _fill_in_from_home(self) -> "Settings":
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError(f"lease_s {self.lease_s} wants to be at least three times heartbeat_s {self.heartbeat_s}")
        if self.nodes > 1:
            self._check_node_group()
        self.home = self.home.resolve()
        self.database_url = self.database_url or f"sqlite:///{self.home / 'registry.sqlite'}"
        self.broker_url = self.broker_url or f"filesystem://{self.home / 'broker'}"
        self.store_url = self.store_url or str(self.home / "store")
        self.runs_dir = (self.home / "runs") if self.runs_dir == Path() else self.runs_dir.resolve()
        return self

    def _check_node_group(self) -> None:
        if self.node_index >= self.nodes:
            raise ValueError(f"node_index {self.node_index} of nodes {self.nodes}: wanted at most {self.nodes - 1}")
        missing = [name for name in ("node_group", "rendezvous") if not getattr(self, name)]
        if missing:
            raise ValueError(f"nodes {self.nodes} wants {' and '.join(missing)} to be given, too")

    def as_environment(self) -> dict[str, str]:
        """This process's environment with these settings in it, for a child process."""
        given = self.model_dump(
            mode="json", exclude={"api_keys", "cuda_visible_devices", "otlp_endpoint"}, exclude_none=True
        )
        values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        return os.environ | {f"NEARFIRST_{name.upper()}": value for name, value in values.items()}

    @property
    def read_limits(self) -> ReadLimits:
        """Of dataset files that requests bring or name."""
        return ReadLimits(self.max_row_bytes, self.max_document_bytes, self.max_expanded_bytes, self.max_expansion)

    @property
    def allowed_roots(self) -> list[Path]:
        """Folders that requests may name files in."""
        return [self.home / "data", self.home / "models", *(root.resolve() for root in self.data_roots)]


@lru_cache
def get_settings() -> Settings:
    """This process's settings, read once."""
    return Settings()
