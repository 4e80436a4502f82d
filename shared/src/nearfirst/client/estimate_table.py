"""An estimate of a training job as a table."""

from rich.table import Table

from nearfirst.contracts.estimates import CheckpointEstimate, EstimateDetails, MemoryEstimate, TrainEstimate
from nearfirst.estimates.sizes import in_gigabytes

_UNKNOWN = "not known"


def estimate_table(estimate: TrainEstimate, title: str) -> Table:
    """What the job would take, a line a number; bytes in units of 10^9."""
    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    details = estimate.estimates
    rows = [("steps", f"{estimate.steps:,}"), ("rows", f"{estimate.rows:,}"), *_tokens(details)]
    parameters = details.parameters
    if parameters is None:
        rows.append(("parameters", _UNKNOWN))
    else:
        trained = "" if parameters.trainable == parameters.total else f", {parameters.trainable:,} of them trained"
        rows.append(("parameters", f"{parameters.total:,}{trained} (from the model's {parameters.source})"))
    rows += _checkpoints(details.checkpoints) if details.checkpoints else [("checkpoints", _UNKNOWN)]
    rows += _memory(details.memory) if details.memory else [("memory", _UNKNOWN)]
    rows += _time(details)
    for name, known in (
        ("GPU has", details.available.gpu_memory_bytes),
        ("disk has free", details.available.disk_bytes),
    ):
        if known is not None:
            rows.append((name, f"{in_gigabytes(known)} GB"))
    for row in (*rows, *(("remark", remark) for remark in estimate.remarks)):
        table.add_row(*row)
    return table


def _tokens(details: EstimateDetails) -> list[tuple[str, str]]:
    tokens = details.tokens
    if tokens is None:
        return [("tokens", _UNKNOWN)]
    how = f"{tokens.num_rows_read:,} rows read"
    if tokens.is_exact:
        how = "exact"
    elif tokens.standard_error is not None:
        how = f"± {tokens.standard_error:,.0f} standard error, {tokens.num_rows_read:,} rows read"
    rows = [("tokens", f"{tokens.tokens:,} ({how})")]
    if tokens.padded_tokens is not None:
        share = tokens.padded_tokens / tokens.tokens - 1 if tokens.tokens else 0.0
        rows.append(("  with padding", f"{tokens.padded_tokens:,} (+ {share:.1%})"))
    return [*rows, ("  longest row read", f"{tokens.longest_row:,}")]


def _checkpoints(found: CheckpointEstimate) -> list[tuple[str, str]]:
    return [
        ("weights checkpoints", f"{found.num_weights:,} of {in_gigabytes(found.weights_bytes)} GB"),
        ("state checkpoints", f"{found.num_states:,} of {in_gigabytes(found.state_bytes)} GB"),
        ("  all that are kept", f"{in_gigabytes(found.kept_bytes)} GB, at most {in_gigabytes(found.peak_bytes)} GB"),
    ]


def _memory(found: MemoryEstimate) -> list[tuple[str, str]]:
    where = f"{found.strategy}, {found.num_processes} process{'es' if found.num_processes > 1 else ''}"
    parts = [
        ("  weights", found.weights_bytes),
        ("  gradients", found.gradient_bytes),
        ("  optimizer", found.optimizer_bytes),
        ("  working copies", found.working_bytes),
        ("  activations (estimate)", found.activation_bytes),
        ("  logits (at most)", found.logit_bytes),
    ]
    rows = [
        (
            "memory per process",
            f"{in_gigabytes(found.total_bytes)} GB ({where}, passes of {found.pass_tokens:,} tokens)",
        )
    ]
    rows += [(name, f"{in_gigabytes(size)} GB") for name, size in parts]
    return [*rows, ("  in the CPU's memory", f"{in_gigabytes(found.host_bytes)} GB")] if found.host_bytes else rows


def _time(details: EstimateDetails) -> list[tuple[str, str]]:
    time = details.time
    if time is None:
        return [("time", _UNKNOWN)]
    hours, minutes = divmod(round(time.seconds / 60), 60)
    how = f"{time.tokens_per_s:,.0f} tokens/s, median of {time.num_steps:,} steps of {time.run}"
    return [("time", f"{hours} h {minutes:02} min ({how})" if time.seconds >= 60 else f"{time.seconds:.0f} s ({how})")]
