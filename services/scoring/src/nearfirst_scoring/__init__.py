"""Nearfirst's scoring service: rewards of completions by UltraRM.

What lives here (docs/adr/0001-rooms-before-furniture.md; the contracts are in `nearfirst.contracts.scoring`):

* `reward_model`: LlamaModel with a linear regression head read at the last real token, from converted safetensors;
  it refuses to start when a tensor of the head would be newly initialised;
* `prompt`: the model card's template, `Human: {instruction}\n\nAssistant: {completion}`, BOS and no EOS;
* `app`: `POST /score`, with length-sorted batches;
* `tasks`: the reward unit of a checkpoint, from the queue.
"""
