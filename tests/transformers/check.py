"""What transformers makes of exported folders; tests/export.rs compares it with ours.

Reads cases as JSON from stdin: {"folder", "trust", "kwargs", "ids", "prompt", "new_tokens", "texts",
"again"}.
Writes a JSON list to the file named as argument: logits (per text of ids, token by token), greedy
continuation of the prompt, ids of the texts and these decoded, and the largest change of a logit after
save_pretrained to "again" and from_pretrained.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def load(folder, case):
    kwargs = {"trust_remote_code": True} if case["trust"] else {}
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **kwargs, **case["kwargs"]
    )
    wrong = {key: list(value) for key, value in info.items() if value}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


@torch.no_grad()
def check(case):
    model = load(case["folder"], case)
    rows = [model(torch.tensor([ids])).logits[0] for ids in case["ids"]]
    result = {"logits": [row.flatten().tolist() for row in rows]}
    prompt = torch.tensor([case["prompt"]])
    new = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_length=None,
        max_new_tokens=case["new_tokens"],
    )
    result["greedy"] = new[0, prompt.shape[1] :].tolist()
    if case["texts"]:
        tokenizer = AutoTokenizer.from_pretrained(case["folder"])
        # As lm-evaluation-harness and ordinary callers do.
        encoded = [tokenizer(text).input_ids for text in case["texts"]]
        result["encoded"] = encoded
        result["decoded"] = [tokenizer.decode(ids, skip_special_tokens=True) for ids in encoded]
        result["eos"] = tokenizer.eos_token_id
        result["batch"] = len(tokenizer(case["texts"], padding=True).input_ids)
    model.save_pretrained(case["again"])
    again = load(case["again"], case)(torch.tensor([case["ids"][0]])).logits[0]
    result["again"] = (again - rows[0]).abs().max().item()
    return result


logging.disable_progress_bar()
answers = [check(case) for case in json.load(sys.stdin)]
with open(sys.argv[1], "w") as out:
    json.dump(answers, out)
