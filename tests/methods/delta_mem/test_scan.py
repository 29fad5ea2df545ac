"""The chunked scan against the token loop: values, gradients, masks and extreme gates."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from deltamem_eval.methods.delta_mem.chunked import SEGMENT
from deltamem_eval.methods.delta_mem.scan import scan
from deltamem_eval.profiling.allocations import Allocations
from torch import Tensor

MODES = ("standard", "lambda_outside", "no_lambda")


def inputs(
    batch: int, heads: int, tokens: int, rank: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    shape = (batch, heads, tokens, rank)
    unit = torch.nn.functional.normalize
    return {
        "q": unit(draw(*shape), dim=-1),
        "k": unit(draw(*shape), dim=-1),
        "v": draw(*shape),
        "beta": draw(*shape).sigmoid(),
        "decay": draw(*shape).sigmoid(),
        "state": draw(batch, heads, rank, rank),
    }


@pytest.mark.parametrize("tokens", [0, 1, 3, 4, 15, 16, 17, 63, 100, 257])
@pytest.mark.parametrize("mode", MODES)
def test_chunked_equals_naive(tokens: int, mode: str) -> None:
    for (batch, heads, rank), coupled in itertools.product([(1, 1, 8), (3, 4, 5)], [True, False]):
        case = inputs(batch, heads, tokens, rank, seed=tokens)
        if coupled:
            case["decay"] = None
        wanted = scan(**case, mode=mode, form="naive")
        for got, value in zip(scan(**case, mode=mode), wanted, strict=True):
            torch.testing.assert_close(got, value, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_agree(mode: str) -> None:
    def gradients(form: str) -> list[Tensor]:
        case = {name: tensor.requires_grad_() for name, tensor in inputs(2, 2, 37, 4).items()}
        reads, end = scan(**case, mode=mode, form=form)
        (reads.square().sum() + end.sin().sum()).backward()
        return [tensor.grad for tensor in case.values() if tensor.grad is not None]

    for got, wanted in zip(gradients("chunked"), gradients("naive"), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_gradcheck_in_float64() -> None:
    case = {name: item.requires_grad_() for name, item in inputs(1, 2, 9, 3, dtype=torch.float64).items()}
    names = list(case)

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return scan(**dict(zip(names, tensors, strict=True)), chunk=4)

    assert torch.autograd.gradcheck(run, tuple(case.values()))


@pytest.mark.parametrize("gate", [0.0, 1e-7, 1 - 1e-7, 1.0])
def test_extreme_gates(gate: float) -> None:
    case = inputs(1, 1, 50, 8)
    case["beta"] = torch.full_like(case["beta"], gate)
    case["beta"][:, :, ::3] = 0.4
    case["decay"] = None
    for got, wanted in zip(scan(**case), scan(**case, form="naive"), strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-5)


def test_scalar_gate_is_one_gate_for_every_row() -> None:
    case = inputs(2, 3, 20, 4)
    scalar = {name: case[name][..., :1] for name in ("beta", "decay")}
    wide = {name: gate.expand(-1, -1, -1, 4) for name, gate in scalar.items()}
    for got, wanted in zip(scan(**{**case, **scalar}), scan(**{**case, **wide}), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("form", ["chunked", "naive"])
def test_masked_tokens_leave_no_trace_whatever_they_hold(form: str) -> None:
    case = inputs(2, 2, 41, 4)
    mask = torch.rand(2, 41, generator=torch.Generator().manual_seed(3)) > 0.4
    for name in ("q", "k", "v", "beta", "decay"):
        case[name] = torch.where(mask[:, None, :, None], case[name], torch.nan)
    reads, end = scan(**case, mask=mask, form=form)
    for row in range(2):
        live = mask[row]
        alone = {
            name: item[row : row + 1] if name == "state" else item[row : row + 1, :, live]
            for name, item in case.items()
        }
        wanted, wanted_end = scan(**alone, form="naive")
        torch.testing.assert_close(reads[row : row + 1, :, live], wanted, atol=2e-5, rtol=1e-5)
        assert not reads[row, :, ~live].any()
        torch.testing.assert_close(end[row : row + 1], wanted_end, atol=2e-5, rtol=1e-5)


def test_state_carries_over() -> None:
    case = inputs(1, 2, 90, 8)
    whole, end = scan(**case)
    sequences = ("q", "k", "v", "beta", "decay")
    first, middle = scan(
        **{name: item[:, :, :33] if name in sequences else item for name, item in case.items()}
    )
    rest = {name: item[:, :, 33:] if name in sequences else middle for name, item in case.items()}
    second, last = scan(**rest)
    torch.testing.assert_close(torch.cat([first, second], 2), whole, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(last, end, atol=2e-5, rtol=1e-5)


def training_bytes(tokens: int) -> tuple[int, int]:
    """Bytes kept between forward and backward, and the most alive in both, beyond the inputs."""
    case = {name: item.requires_grad_() for name, item in inputs(1, 1, tokens, 8).items()}
    with Allocations() as found:
        reads, end = scan(**case)
        kept = found.live
        (reads.square().sum() + end.square().sum()).backward()
    return kept, found.peak


def test_memory_for_training_grows_linearly_and_holds_no_state_a_token() -> None:
    (kept, peak), (kept_twice, peak_twice) = training_bytes(4 * SEGMENT), training_bytes(8 * SEGMENT)
    assert kept_twice <= 2.01 * kept
    assert peak_twice <= 2.01 * peak
    assert kept_twice / (8 * SEGMENT) < 8 * 8 * 4  # less than one 8 × 8 state a token


def test_gradients_across_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> list[Tensor]:
        case = {name: tensor.requires_grad_() for name, tensor in inputs(2, 2, 75, 4).items()}
        reads, end = scan(**case)
        (reads.square().sum() + end.sin().sum()).backward()
        return [tensor.grad for tensor in case.values() if tensor.grad is not None]

    wanted = gradients()
    monkeypatch.setattr("deltamem_eval.methods.delta_mem.chunked.SEGMENT", 20)
    for got, value in zip(gradients(), wanted, strict=True):
        torch.testing.assert_close(got, value, atol=1e-5, rtol=1e-5)


def test_half_precision_inputs_are_computed_in_float32() -> None:
    case = {name: item.bfloat16() for name, item in inputs(1, 1, 64, 8).items()}
    reads, end = scan(**case)
    assert reads.dtype == end.dtype == torch.float32
    wanted, _ = scan(**{name: item.float() for name, item in case.items()}, form="naive")
    torch.testing.assert_close(reads, wanted, atol=2e-5, rtol=1e-5)


CASES = json.loads(Path(__file__).with_name("cases.json").read_text())


@pytest.mark.parametrize("form", ["chunked", "naive"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['mode']}-{len(case['q'])}")
def test_stored_cases_of_the_plain_recurrence(form: str, case: dict) -> None:
    given = {name: torch.tensor(case[name])[None, None] for name in ("q", "k", "v", "beta", "decay", "state")}
    reads, end = scan(**given, mode=case["mode"], form=form, chunk=4)
    torch.testing.assert_close(reads[0, 0], torch.tensor(case["reads"]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end[0, 0], torch.tensor(case["end"]), atol=1e-5, rtol=1e-5)
