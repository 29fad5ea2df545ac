"""Branches packed behind one trunk are what they would be as rows of their own."""

import pytest
import torch
from deltamem_eval.attention import limited
from deltamem_eval.methods.context2lora.train import reading_loss
from deltamem_eval.methods.packing import Tree, branch_states, embedded
from deltamem_eval.methods.training import Example, answer_batch, answer_loss
from tiny import tiny_backbone
from transformers import AutoConfig, AutoModelForCausalLM


def model_of(kind: str, attention: str) -> AutoModelForCausalLM:
    torch.manual_seed(1)
    extra = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
    config = AutoConfig.for_model(
        kind,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        vocab_size=60,
        initializer_range=0.3,
        **(extra if kind == "gemma3_text" else {}),
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["qwen3", "llama", "gemma3_text"])
def test_branches_are_what_separate_rows_are(kind: str, attention: str) -> None:
    model = model_of(kind, attention)
    assert limited(model) == (kind == "gemma3_text")
    generator = torch.Generator().manual_seed(7)

    def draw(length: int) -> list[int]:
        return torch.randint(0, 60, (length,), generator=generator).tolist()

    texts = [(draw(9), [draw(4), draw(1), draw(7)]), (draw(0), [draw(3)]), (draw(2), [draw(11), draw(2)])]
    trees = [
        Tree(embedded(model, trunk), tuple(embedded(model, branch) for branch in branches))
        for trunk, branches in texts
    ]
    with torch.no_grad():
        found = branch_states(model, trees)
        for states, (trunk, branches) in zip(found, texts, strict=True):
            for state, branch in zip(states, branches, strict=True):
                alone = model.get_decoder()(torch.tensor([[*trunk, *branch]])).last_hidden_state[0]
                torch.testing.assert_close(state, alone[len(trunk) :], atol=2e-5, rtol=2e-5)


def test_the_loss_of_packed_questions_is_that_of_whole_prompts() -> None:
    model = tiny_backbone().model
    examples = [
        Example(((5, 9), (7,)), (((11, 12), (3, 4, 6)), ((13,), (8,)))),
        Example((), (((20, 21, 22), (2, 2)),)),
    ]
    whole = [
        ((*(token for message in example.messages for token in message), *prompt), answer)
        for example in examples
        for prompt, answer in example.questions
    ]
    for length in (2, 512):
        wanted = answer_loss(model, *answer_batch(whole, length, model.device))
        torch.testing.assert_close(reading_loss(model, examples, length), wanted, atol=1e-5, rtol=1e-5)
