"""The Triton scan against the token loop in float64: on a GPU where there is one, else interpreted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem.kernel import LEAST_TRITON
from deltamem_eval.methods.delta_mem.recurrence import Inputs
from deltamem_eval.methods.delta_mem.scan import scan
from torch import Tensor

triton = pytest.importorskip("triton", reason="triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEQUENCES = ("q", "k", "v", "beta", "decay")


def inputs(
    batch: int, heads: int, tokens: int, rank: int, *, coupled: bool = False, seed: int = 0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    shape, unit = (batch, heads, tokens, rank), torch.nn.functional.normalize
    case = {
        "q": unit(draw(*shape), dim=-1),
        "k": unit(draw(*shape), dim=-1),
        "v": draw(*shape),
        "beta": draw(*shape).sigmoid(),
        "decay": draw(*shape).sigmoid(),
        "state": draw(batch, heads, rank, rank),
    }
    if coupled:
        del case["decay"]
    return {name: tensor.to(DEVICE) for name, tensor in case.items()}


def results(
    case: dict[str, Tensor], form: str, mode: str = "standard", mask: Tensor | None = None
) -> list[Tensor]:
    """Reads, the end state, and the gradients of every input."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in case.items()}
    reads, end = scan(**{"decay": None, **leaves}, mask=mask, mode=mode, form=form)
    (reads.sin().sum() + (end.square() * 0.5).sum()).backward()
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves.values()]
    return [reads.detach(), end.detach(), *gradients]


def check(case: dict[str, Tensor], mode: str = "standard", mask: Tensor | None = None) -> None:
    """The kernel's values and gradients are those of the token loop in float64."""
    wanted = results({name: tensor.double() for name, tensor in case.items()}, "naive", mode, mask)
    for got, value in zip(results(case, "triton", mode, mask), wanted, strict=True):
        torch.testing.assert_close(got.double(), value, atol=3e-5, rtol=3e-5)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that nobody has written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("shape", "mode", "coupled"),
    [
        ((2, 2, 0, 8), "standard", False),
        ((2, 3, 1, 8), "standard", True),
        ((1, 2, 7, 3), "lambda_outside", False),
        ((1, 1, 32, 8), "no_lambda", True),
        ((2, 2, 33, 8), "standard", True),
        ((1, 1, 33, 5), "lambda_outside", True),
        ((1, 1, 100, 8), "no_lambda", False),
        ((3, 1, 100, 3), "standard", False),
        ((1, 1, 70, 16), "lambda_outside", False),
        ((2, 1, 40, 1), "standard", False),
        ((1, 1, 3, 33), "standard", False),
        ((1, 1, 5, 64), "standard", True),
    ],
    ids=str,
)
def test_values_and_gradients(shape: tuple[int, int, int, int], mode: str, coupled: bool) -> None:
    check(inputs(*shape, coupled=coupled, seed=sum(shape)), mode)


@pytest.mark.usefixtures("poisoned")
def test_groups_of_groups_of_spans() -> None:
    # 18 spans of 32 tokens: one whole group of 16 and the rest of another, in two rows.
    check(inputs(2, 1, 550, 2))


@pytest.mark.usefixtures("poisoned")
def test_many_levels_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltamem_eval.methods.delta_mem.kernel.passage.GROUP", 4)
    check(inputs(1, 1, 32 * 17 + 5, 2))


@pytest.mark.usefixtures("poisoned")
def test_groups_of_spans_of_a_padded_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rank 17 is padded to 32, and its spans have 128 tokens: three of them, with groups of two maps.
    for name in ("GROUP", "BLOCK"):
        monkeypatch.setattr(f"deltamem_eval.methods.delta_mem.kernel.passage.{name}", 2)
    check(inputs(1, 1, 2 * 128 + 3, 17))


@pytest.mark.parametrize("gate", [0.0, 1e-7, 1 - 1e-7, 1.0])
def test_extreme_gates(gate: float) -> None:
    case = inputs(1, 1, 50, 4, coupled=True)
    case["beta"] = torch.full_like(case["beta"], gate)
    case["beta"][:, :, ::3] = 0.4
    check(case)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_gates_that_are_0_or_1_everywhere(beta: float, decay: float) -> None:
    case = inputs(1, 1, 40, 2)
    check(
        {
            **case,
            "beta": torch.full_like(case["beta"], beta),
            "decay": torch.full_like(case["decay"], decay),
        }
    )


@pytest.mark.usefixtures("poisoned")
def test_masked_tokens_leave_no_trace_whatever_they_hold() -> None:
    case = inputs(2, 2, 41, 4)
    mask = (torch.rand(2, 41, generator=torch.Generator().manual_seed(3)) > 0.4).to(DEVICE)
    check(case, mask=mask)
    wanted = scan(**case, mask=mask, form="triton")
    for name in SEQUENCES:
        case[name] = torch.where(mask[:, None, :, None], case[name], torch.nan)
    for got, value in zip(scan(**case, mask=mask, form="triton"), wanted, strict=True):
        assert torch.equal(got, value)


def test_a_row_that_is_masked_altogether() -> None:
    case = inputs(2, 1, 34, 4)
    mask = torch.tensor([[True], [False]], device=DEVICE).expand(2, 34)
    check(case, mask=mask)
    assert torch.equal(scan(**case, mask=mask, form="triton")[1][1], case["state"][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    case = {name: item.to(dtype) for name, item in inputs(1, 1, 36, 4).items()}
    reads, end, *gradients = results(case, "triton")
    assert reads.dtype == end.dtype == torch.float32
    wanted_reads, wanted_end, *wanted = results({name: item.double() for name, item in case.items()}, "naive")
    torch.testing.assert_close(reads.double(), wanted_reads, atol=3e-5, rtol=3e-5)
    torch.testing.assert_close(end.double(), wanted_end, atol=3e-5, rtol=3e-5)
    for got, value in zip(gradients, wanted, strict=True):
        assert got.dtype == dtype
        step = torch.finfo(dtype).eps  # a gradient is rounded to the type of its input
        torch.testing.assert_close(got.double(), value, atol=step, rtol=2 * step)


def test_equal_inputs_give_equal_bits() -> None:
    case = inputs(2, 1, 70, 4)
    for first, second in zip(results(case, "triton"), results(case, "triton"), strict=True):
        assert torch.equal(first, second)


def test_a_row_s_bits_depend_on_no_other_row() -> None:
    case = inputs(3, 1, 70, 4)
    alone = {name: item[1:2] for name, item in case.items()}
    for together, one in zip(results(case, "triton"), results(alone, "triton"), strict=True):
        assert torch.equal(together[1:2], one)


def test_inputs_of_any_strides() -> None:
    from deltamem_eval.methods.delta_mem.kernel.function import scan_triton

    case = inputs(2, 1, 40, 4)
    q, k, v, beta, decay, state = (item[:, 0] for item in case.values())
    plain = Inputs(q, k, v, beta, beta, decay)
    strided = Inputs(
        q.transpose(1, 2).contiguous().transpose(1, 2),
        k.flip(1).flip(1),
        torch.cat([v, v], 2)[..., :4],
        beta.repeat_interleave(2, 1)[:, ::2],
        torch.stack([beta, beta], -1)[..., 1],
        decay.transpose(0, 1).contiguous().transpose(0, 1),
    )
    turned = state.transpose(1, 2).contiguous().transpose(1, 2)
    for got, wanted in zip(scan_triton(strided, turned), scan_triton(plain, state), strict=True):
        assert torch.equal(got, wanted)


def test_gradients_of_reads_alone_and_of_the_state_alone() -> None:
    def gradients(form: str, chosen: int) -> list[Tensor]:
        leaves = {name: item.clone().requires_grad_() for name, item in inputs(1, 1, 35, 4).items()}
        found = scan(**leaves, form=form)[chosen].sin().sum()
        return list(torch.autograd.grad(found, list(leaves.values()), materialize_grads=True))

    for chosen in (0, 1):
        for got, wanted in zip(gradients("triton", chosen), gradients("naive", chosen), strict=True):
            torch.testing.assert_close(got, wanted, atol=3e-5, rtol=3e-5)


def test_what_is_kept_for_the_backward_pass() -> None:
    from deltamem_eval.methods.delta_mem.kernel.function import scan_triton

    def kept(tokens: int) -> int:
        case, found = inputs(1, 1, tokens, 4), []
        sequence = [case[name][:, 0].requires_grad_() for name in SEQUENCES]
        with torch.autograd.graph.saved_tensors_hooks(lambda item: found.append(item.numel()), lambda _: _):
            scan_triton(Inputs(*sequence, sequence[-1]), case["state"][:, 0])
        return sum(found)

    for tokens in (64, 128):  # the inputs, and a state every 32 tokens
        assert kept(tokens) == 6 * tokens * 4 + tokens // 32 * 4 * 4


CASES = json.loads(Path(__file__).with_name("cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['mode']}-{len(case['q'])}")
def test_stored_cases_of_the_plain_recurrence(case: dict) -> None:
    names = (*SEQUENCES, "state")
    given = {name: torch.tensor(case[name], device=DEVICE)[None, None] for name in names}
    reads, end = scan(**given, mode=case["mode"], form="triton")
    torch.testing.assert_close(reads[0, 0].cpu(), torch.tensor(case["reads"]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end[0, 0].cpu(), torch.tensor(case["end"]), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU, auto is triton")
def test_without_a_gpu_auto_is_chunked() -> None:
    case = inputs(1, 1, 20, 4)
    for got, wanted in zip(scan(**case), scan(**case, form="chunked"), strict=True):
        assert torch.equal(got, wanted)


def test_what_the_kernel_cannot_do_is_said() -> None:
    double = {name: item.double() for name, item in inputs(1, 1, 9, 4).items()}
    with pytest.raises(UserError, match="float64"):
        scan(**double, form="triton")
    with pytest.raises(UserError, match="up to 64, not 65"):
        scan(**inputs(1, 1, 2, 65), form="triton")


def test_on_a_cpu_the_kernel_asks_for_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    case = {name: item.cpu() for name, item in inputs(1, 1, 9, 4).items()}
    with pytest.raises(UserError, match="TRITON_INTERPRET"):
        scan(**case, form="triton")


def test_the_least_triton_is_the_one_that_is_asked_for() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f'gpu = ["triton>={".".join(map(str, LEAST_TRITON))};' in text


def test_triton_is_imported_only_for_the_kernel() -> None:
    code = (
        "import sys, torch; from deltamem_eval.methods.delta_mem.scan import scan; "
        "x = torch.ones(1, 1, 9, 2); scan(x, x, x, x, None, x.new_zeros(1, 1, 2, 2)); "
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_program_compiles_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    # The interpreter takes what the compiler refuses, so this is a test of its own.
    script = Path(__file__).with_name("compile_programs.py")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = {"map_spans", "compose_maps", "walk_maps", "walk_spans", "differentiate_spans"}
    compiled = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    wanted = {(name, str(rank)) for name in ours for rank in (8, 33, 64)}
    assert compiled == wanted | {("walk_row", "8"), ("walk_row_back", "8")}
