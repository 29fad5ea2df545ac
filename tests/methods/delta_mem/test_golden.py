"""The public release's outputs on small random models (float32, eager attention)."""

import pytest
import torch
from deltamem_eval.methods.delta_mem import (
    get_state,
    load_adapter,
    reset_state,
    segments,
    writing,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from shared import shared

CASES = ("qwen3-tsw", "qwen3-msw", "qwen3-ssw")
LOGITS, STATE = 1e-4, 1e-5


class Case:
    def __init__(self, name: str, attention: str, device: str) -> None:
        folder = shared("golden", name)
        self.expected = load_file(folder / "expected.safetensors", device)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder / "base", dtype=torch.float32, attn_implementation=attention
        ).eval()
        self.model.to(device)
        load_adapter(self.model, folder / "adapter")

    def forward(self, ids: str, message_ids: str = "", **kwargs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            if message_ids and message_ids in self.expected:
                with segments(self.model, self.expected[message_ids]):
                    return self.model(self.expected[ids], **kwargs).logits
            return self.model(self.expected[ids], **kwargs).logits

    def close(self, logits: torch.Tensor, name: str) -> None:
        torch.testing.assert_close(logits, self.expected[name], atol=LOGITS, rtol=0)

    def states_close(self, prefix: str) -> None:
        state = get_state(self.model)
        wanted = {
            key.split("/", 1)[1]: value for key, value in self.expected.items() if key.startswith(prefix)
        }
        assert wanted.keys() == state.keys()
        for path, value in wanted.items():
            torch.testing.assert_close(state[path], value, atol=STATE, rtol=0)


@pytest.fixture(
    params=[
        (name, kind, device) for name in CASES for kind in ("eager", "sdpa") for device in ("cpu", "cuda")
    ],
    ids="-".join,
)
def case(request: pytest.FixtureRequest) -> Case:
    if request.param[2] == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return Case(*request.param)


def test_write_read_and_carry_over(case: Case) -> None:
    case.close(case.forward("ids", "segments"), "logits")
    case.states_close("state/")
    with writing(case.model, False):
        case.close(case.forward("query"), "query_logits_readonly")
    case.states_close("state/")
    case.close(case.forward("ids2", "segments2"), "logits2_after_first")
    case.states_close("state2/")


def test_left_padding_neither_reads_nor_writes(case: Case) -> None:
    if "logits_padded" not in case.expected:
        pytest.skip("this case has no padded outputs")
    mask = case.expected["mask"]
    logits = case.forward("ids", attention_mask=mask)
    live = mask.bool()
    torch.testing.assert_close(logits[live], case.expected["logits_padded"][live], atol=LOGITS, rtol=0)
    case.states_close("state_padded/")


def test_generation_with_a_cache(case: Case) -> None:
    if "generated" not in case.expected:
        pytest.skip("this case has no generation")
    reset_state(case.model)
    prompt = case.expected["ids"][:1, :60]
    with torch.no_grad():
        out = case.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False
        )
    wanted = case.expected["generated"].flatten()
    assert torch.equal(out.flatten()[-24:], wanted[-24:])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", CASES)
def test_a_bfloat16_backbone_stays_near_and_its_state_stays_float32(name: str, device: str) -> None:
    """The state is computed in float32 from bfloat16 hidden states: only their rounding separates the two."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    case = Case(name, "sdpa", device)
    case.model.to(torch.bfloat16)
    logits = case.forward("ids", "segments").float()
    wanted = case.expected["logits"]
    assert float((logits - wanted).abs().mean()) < 0.05 * float(wanted.std())
    for path, state in get_state(case.model).items():
        assert state.dtype == torch.float32
        expected = case.expected[f"state/{path}"]
        assert float((state - expected).abs().max()) < 0.12 * float(expected.abs().max())
