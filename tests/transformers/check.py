"""What transformers makes of exported folders; tests/export.rs compares it with ours.

Reads cases as JSON from stdin: {"folder", "trust", "kwargs", "ids", "prompt", "new_tokens", "texts",
"again"}.
Writes a JSON list to the file named as argument: logits (per text of ids, token by token), greedy
continuation of the prompt, ids of the texts and these decoded, the largest change of a logit after
save_pretrained to "again" and from_pretrained, and of folders with links and factors how far the loader
in README.md is from their modules.
"""

import json
import re
import sys
from pathlib import Path

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


def readme_loader(folder):
    """`project` as README.md has it, reading this folder."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    code, found = re.subn(r'^folder = ".*?"', f"folder = {folder!r}", code, flags=re.MULTILINE)
    assert found == 1, code
    names = {}
    exec(compile(code, "<README.md>", "exec"), names)
    return names["project"]


@torch.no_grad()
def compare_loader(folder, model):
    """Number of projections, and their largest difference relative to the largest output."""
    project = readme_loader(folder)
    worst, count = 0.0, 0
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            x = torch.randn(5, module.in_features)
            wanted = module(x)
            difference = (project(name, x) - wanted).abs().max() / wanted.abs().max()
            worst, count = max(worst, difference.item()), count + 1
    return {"projections": count, "difference": worst}


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
    if case["trust"]:
        result["loader"] = compare_loader(case["folder"], model)
    model.save_pretrained(case["again"])
    again = load(case["again"], case)(torch.tensor([case["ids"][0]])).logits[0]
    result["again"] = (again - rows[0]).abs().max().item()
    return result


logging.disable_progress_bar()
torch.manual_seed(1)
answers = [check(case) for case in json.load(sys.stdin)]
with open(sys.argv[1], "w") as out:
    json.dump(answers, out)
