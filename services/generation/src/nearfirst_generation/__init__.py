"""Nearfirst's generation service: one resident vLLM engine for a whole trajectory of checkpoints.

What lives here (docs/adr/0001-rooms-before-furniture.md; the contracts are in `nearfirst.contracts.generation`):

* `worker_extension`: runs inside vLLM, checks a checkpoint's configuration and shards before any weight is touched,
  then reloads in place;
* `swap`: pause, check, reload, reset the prefix cache, name the new weight version, resume, canary prompt;
* `app`: vLLM's OpenAI-compatible server with `/weights` beside it;
* `metrics`: ROUGE-1, ROUGE-L and exact match, best over references;
* `tasks`: the (checkpoint, metric) units of an evaluation, from the queue.

vLLM is imported in this distribution only.
"""
