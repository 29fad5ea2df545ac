"""The decode step against the scan of one token, and under static caches and compilation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.methods.delta_mem import (
    DeltaMemConfig,
    attach,
    detach,
    get_state,
    reset_state,
    segments,
    set_state,
    trainable_parameters,
    writing,
)
from deltamem_eval.methods.delta_mem.hooks import attachment_of, use_form
from deltamem_eval.methods.delta_mem.ingest import ingest
from deltamem_eval.methods.delta_mem.memory import LayerMemory
from deltamem_eval.profiling.allocations import Allocations
from tiny import tiny_backbone
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, CompileConfig, GenerationConfig, StaticCache

CONFIGS = {
    "token": DeltaMemConfig(),
    "multi": DeltaMemConfig(num_state_heads=3, rank=5, delta_heads=("q", "k", "v", "o")),
    "scalar": DeltaMemConfig(num_state_heads=2, rank=3, rankwise_gates=False, couple_lambda=False),
    "outside": DeltaMemConfig(rank=4, state_update_mode="lambda_outside", couple_lambda=False),
    "outside-coupled": DeltaMemConfig(rank=1, state_update_mode="lambda_outside"),
    "no-lambda": DeltaMemConfig(rank=7, state_update_mode="no_lambda", normalize_qk=False),
    "message": DeltaMemConfig(memory_write_granularity="message_mean", delta_heads=("q",)),
}
VOCABULARY = 258
COMPILER = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def tiny(config: DeltaMemConfig | None = None, attention: str = "sdpa") -> Any:
    """A random Qwen3 that never ends a text; with a memory of random parameters where a config is given."""
    model = tiny_backbone(256).model
    model.set_attn_implementation(attention)
    model.generation_config.eos_token_id = None
    if config is not None:
        remember(model, config)
    return model


def remember(model: nn.Module, config: DeltaMemConfig) -> None:
    attach(model, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(model):
        parameter.normal_(0, 0.3, generator=generator)


def tokens(rows: int, count: int) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, count), generator=torch.Generator().manual_seed(count))


def memory_of(config: DeltaMemConfig, hidden: int = 9) -> LayerMemory:
    generator = torch.Generator().manual_seed(3)
    memory = LayerMemory(config, {head: torch.zeros(hidden, hidden) for head in "qkvo"})
    for parameter in memory.parameters():
        parameter.normal_(0, 0.5, generator=generator)
    return memory


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_is_the_scan_of_one_token(name: str, rows: int, write: bool) -> None:
    """A padded row, of which any number may come, neither reads nor writes."""
    config, hidden = CONFIGS[name], 9
    fast, naive = memory_of(config), memory_of(config)
    naive.form = "naive"
    generator = torch.Generator().manual_seed(4)
    start = torch.randn(rows, config.num_state_heads, config.rank, config.rank, generator=generator)
    for memory in (fast, naive):
        memory.state = start
    for index in range(4):
        x = torch.randn(rows, 1, hidden, generator=generator) * 10.0 ** (1 - index)
        mask = torch.ones(rows, 1, dtype=torch.bool) if index else None
        if mask is not None and rows > 1:
            mask[index % rows] = False
            x[index % rows] = torch.nan
        for memory in (fast, naive):
            memory.step(x, mask, None, write)
        torch.testing.assert_close(fast.reads[:, None], naive.reads, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(fast.state, naive.state, atol=1e-5, rtol=1e-5)


KERNEL = """
import torch
from test_step import CONFIGS
from deltamem_eval.methods.delta_mem.step import step_plain
from deltamem_eval.methods.delta_mem.step_kernel import step_fused
torch.manual_seed(0)
for config in CONFIGS.values():
    for rows in (1, 3):
        for live in (None, torch.arange(rows) != 1):
            for write in (True, False):
                gates = config.gates * (2 if config.has_lambda else 1)
                width = 3 * config.width + gates if write else config.width
                shape = (rows, config.num_state_heads, config.rank, config.rank)
                projected = torch.randn(rows, width) * torch.logspace(-3, 1, rows)[:, None]
                state = torch.randn(shape)
                wanted_state, got_state = state.clone(), state.clone()
                wanted = step_plain(projected, wanted_state, live, config, write)
                got = step_fused(projected, got_state, live, config, write)
                torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)
                torch.testing.assert_close(got_state, wanted_state, atol=1e-6, rtol=1e-5)
print("equal")
"""


COMPILE = """
import torch
from test_step import CONFIGS
from deltamem_eval.methods.delta_mem.step_kernel import step_fused
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

def compile_instead(program, *args, num_warps, grid, warmup, **constants):
    kinds = {torch.float32: "*fp32", torch.bool: "*i1"}
    names = [name for name in program.arg_names if name not in constants]
    signature = {name: kinds[arg.dtype] if hasattr(arg, "dtype") else "i32" for name, arg in zip(names, args)}
    signature.update(dict.fromkeys(constants, "constexpr"))
    compile(ASTSource(program, signature, constants), target=GPUTarget("cuda", 80, 32))

JITFunction.run = compile_instead
for config in CONFIGS.values():
    for live in (None, torch.ones(1, dtype=torch.bool)):
        state = torch.zeros(1, config.num_state_heads, config.rank, config.rank)
        step_fused(torch.zeros(1, 99), state, live, config, True)
    step_fused(torch.zeros(1, 99), state, None, config, False)
print("compiled")
"""


@pytest.mark.parametrize(
    ("script", "interpret", "says"), [(KERNEL, "1", "equal"), (COMPILE, "0", "compiled")]
)
def test_the_kernel_is_the_plain_step(script: str, interpret: str, says: str, tmp_path: Path) -> None:
    """In an interpreter, which has to be chosen before Triton is imported; and it compiles without a GPU."""
    pytest.importorskip("triton")
    environment = {
        **os.environ,
        "TRITON_INTERPRET": interpret,
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{says}\n", done.stderr


@pytest.mark.parametrize("name", ["multi", "scalar"])
def test_a_packed_projection_follows_its_parameters(name: str) -> None:
    memory, x = memory_of(CONFIGS[name]), torch.randn(2, 9)

    def apart() -> Tensor:
        gates = ("beta", "lambda") if memory.config.has_lambda else ("beta",)
        inputs = [x @ getattr(memory, f"memory_{head}_proj").T for head in "qkv"]
        return torch.cat(
            inputs + [x @ getattr(memory, f"{g}_proj").T + getattr(memory, f"{g}_bias") for g in gates], 1
        )

    def same() -> None:
        torch.testing.assert_close(memory._project(x), apart(), atol=1e-5, rtol=1e-5)

    same()
    memory.memory_v_proj.add_(1)  # as an optimiser or a loaded adapter does
    memory.beta_bias.fill_(3)
    same()
    with torch.enable_grad():
        memory._project(x).sum().backward()
    for name_, parameter in memory.named_parameters():
        assert (parameter.grad is not None) == ("delta" not in name_)
    memory.double().float()
    same()
    memory.memory_k_proj.mul_(2)
    same()
    memory.memory_q_proj.data = torch.randn_like(memory.memory_q_proj)
    same()
    memory.beta_proj = nn.Parameter(torch.randn_like(memory.beta_proj))
    same()


def test_states_given_and_taken_are_not_changed_by_later_writes() -> None:
    model, ids = tiny(CONFIGS["token"]), tokens(2, 6)
    model(ids)
    taken = get_state(model)
    kept = {path: state.clone() for path, state in taken.items()}
    model(ids[:, :1])
    assert all(torch.equal(taken[path], state) for path, state in kept.items())
    assert not any(torch.equal(get_state(model)[path], state) for path, state in kept.items())
    set_state(model, taken)
    model(ids[:, :1])
    assert all(torch.equal(taken[path], state) for path, state in kept.items())


def test_a_state_stays_where_it_is_while_the_rows_do() -> None:
    """A captured graph updates it there."""
    model, ids = tiny(CONFIGS["token"]), tokens(2, 6)
    memories = attachment_of(model).memories.values()
    model(ids)
    places = [memory._buffer.data_ptr() for memory in memories]
    given = get_state(model)
    model(ids[:, :1])
    reset_state(model)
    assert not any(memory._buffer.any() for memory in memories)
    set_state(model, given)
    model(ids)
    assert [memory._buffer.data_ptr() for memory in memories] == places


def test_a_backward_pass_may_come_after_later_writes() -> None:
    model, ids = tiny(CONFIGS["token"]), tokens(1, 6)
    model(ids)
    start = get_state(model)
    gradients = []
    for later in (False, True):
        set_state(model, start)
        with torch.enable_grad(), writing(model, False):
            loss = model(ids[:, :3]).logits.square().mean()
        if later:
            model(ids)
            set_state(model, {path: state + 1 for path, state in start.items()})
        loss.backward()
        gradients.append([p.grad.clone() for p in trainable_parameters(model) if p.grad is not None])
        model.zero_grad()
        for parameter in trainable_parameters(model):
            parameter.grad = None
    assert gradients[0]
    assert all(map(torch.equal, *gradients))


def test_inference_mode_and_no_grad_may_alternate() -> None:
    model, ids = tiny(CONFIGS["multi"]), tokens(1, 6)
    for _ in range(2):
        with torch.inference_mode():
            model(ids)
            state = get_state(model)
            model(ids[:, :1])
        model(ids[:, :1])
        set_state(model, state)
        model(ids[:, :1])


@pytest.mark.parametrize("name", ["token", "multi", "message"])
@pytest.mark.parametrize("layers", [(), (1,)])
def test_ingest_leaves_the_states_of_a_whole_forward(name: str, layers: tuple[int, ...]) -> None:
    config = DeltaMemConfig(**{**CONFIGS[name].__dict__, "target_layers": layers})
    model, ids = tiny(config), tokens(2, 30)
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, 25:] = 0
    messages = torch.where(mask.bool(), torch.arange(30) // 7, -1)
    calls: list[str] = []
    last = (layers or (2,))[-1]
    for layer, module in enumerate(model.model.layers):
        module.mlp.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
    states = []
    for whole in (True, False):
        reset_state(model)
        for _ in range(2):
            if whole:
                with segments(model, messages):
                    model(ids, attention_mask=mask, use_cache=False)
            else:
                calls.clear()
                ingest(model, ids, messages, mask)
                assert calls == list(range(last))
        states.append(get_state(model))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][path], states[1][path]) for path in states[0])
    assert attachment_of(model).mask is attachment_of(model).segments is None
    detach(model)
    assert model(ids).logits.shape == (2, 30, VOCABULARY)


def padded(rows: int, count: int) -> tuple[Tensor, Tensor]:
    """Left-padded prompts and their mask."""
    ids, mask = tokens(rows, count), torch.ones(rows, count, dtype=torch.long)
    for row in range(rows - 1):
        mask[row, : 2 + row] = 0
    return ids * mask, mask


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["token", "multi"])
def test_generate_with_a_static_cache_is_generate(name: str, rows: int, attention: str) -> None:
    """generate prepares the masks of a static cache itself; padding is found in them."""
    model = tiny(CONFIGS[name], attention)
    ids, mask = padded(rows, 9)
    found = []
    for options in ({}, {"cache_implementation": "static"}):
        reset_state(model)
        out = model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, **options)
        found.append((out, get_state(model)))
    assert torch.equal(found[0][0], found[1][0])
    for path, state in found[0][1].items():
        torch.testing.assert_close(state, found[1][1][path], atol=1e-5, rtol=1e-5)


def test_sliding_layers_find_padding_in_a_static_cache() -> None:
    torch.manual_seed(0)
    shape = AutoConfig.for_model(
        "gemma3_text",
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=40,
        vocab_size=VOCABULARY,
        sliding_window=6,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )
    for kinds in (shape.layer_types, ["sliding_attention"] * 3):
        shape.layer_types = kinds
        model = AutoModelForCausalLM.from_config(shape, attn_implementation="eager").eval()
        remember(model, CONFIGS["token"])
        ids, mask = padded(3, 9)
        states = []
        for options in ({}, {"cache_implementation": "static"}):
            reset_state(model)
            model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, **options)
            states.append(get_state(model))
        for path, state in states[0].items():
            torch.testing.assert_close(state, states[1][path], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["token", "multi", "scalar"])
def test_a_decode_step_compiles_as_one_graph(name: str, masked: bool) -> None:
    """Without a break and, after the first, without compiling again."""
    rows, count, new = 2, 7, 5
    ids, mask = padded(rows, count + new)
    mask = mask if masked else None
    model = tiny(CONFIGS[name])
    logits, states = [], []
    for compiled in (False, True):
        torch._dynamo.reset()
        reset_state(model)
        step = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        cache = StaticCache(config=model.config, max_cache_len=count + new)
        positions = None if mask is None else (mask.cumsum(1) - 1).clamp(min=0)
        made = []
        for start, stop in [(0, count), *((t, t + 1) for t in range(count, count + new))]:
            call = step if stop - start == 1 else model
            with torch._dynamo.config.patch(error_on_recompile=stop > count + 1):
                out = call(
                    ids[:, start:stop],
                    # Of one width, as compiled code wants it.
                    attention_mask=mask,
                    position_ids=None if positions is None else positions[:, start:stop],
                    past_key_values=cache,
                    use_cache=True,
                )
            made.append(out.logits[:, -1])
        logits.append(torch.stack(made))
        states.append(get_state(model))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)
    for path, state in states[0].items():
        torch.testing.assert_close(state, states[1][path], atol=1e-5, rtol=1e-5)


def stepping(model: Any, start: Tensor, room: int, forward: Any = None) -> Callable[[], Tensor]:
    """Reads a prompt into a static cache; each call decodes a token [batch, 1] at one address."""
    cache = StaticCache(config=model.config, max_cache_len=room)
    model(start, past_key_values=cache, use_cache=True)
    token = start[:, -1:].clone()

    def step() -> Tensor:
        seen = cache.get_seq_length().clone()
        mask = torch.arange(room, device=token.device) <= seen
        out = (model if forward is None else forward)(
            token,
            attention_mask=mask[None, None, None],
            position_ids=seen.reshape(1, 1),
            past_key_values=cache,
            use_cache=True,
        )
        return token.copy_(out.logits[:, -1:].argmax(-1))

    return step


@pytest.mark.skipif(COMPILER is None, reason="inductor needs a C++ compiler, and there is none")
def test_a_decode_step_compiled_by_inductor_is_the_eager_one() -> None:
    model, found = tiny(CONFIGS["token"]), []
    del model.model.layers[1:]
    model.config.num_hidden_layers, model.config.layer_types = 1, model.config.layer_types[:1]
    for compiled in (False, True):
        torch._dynamo.reset()
        reset_state(model)
        forward = torch.compile(model, fullgraph=True, backend="inductor") if compiled else None
        step = stepping(model, tokens(1, 7), 12, forward)
        found.append((torch.cat([step().clone() for _ in range(4)]), get_state(model)))
    assert torch.equal(found[0][0], found[1][0])
    for path, state in found[0][1].items():
        torch.testing.assert_close(state, found[1][1][path], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["token", "multi"])
def test_steps_leave_no_more_memory_taken_than_the_first(name: str) -> None:
    """What a step allocates it gives back: the reads of the last one take the place of those before."""
    step, live = stepping(tiny(CONFIGS[name]), tokens(2, 7), 20), []
    with Allocations() as found:
        for _ in range(6):
            step()
            live.append(found.live)
    assert found.peak > 0
    assert live == [live[0]] * 6


@on_gpu
@pytest.mark.parametrize("name", ["token", "multi"])
def test_a_captured_decode_step_decodes_as_it_does_uncaptured(name: str) -> None:
    model, found = tiny(CONFIGS[name]).cuda(), []
    for captured in (False, True):
        reset_state(model)
        step = stepping(model, tokens(1, 9).cuda(), 24)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            token = [step() for _ in range(3)][-1]
        torch.cuda.current_stream().wait_stream(aside)
        work: Callable[[], object] = step
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            work = graph.replay
        made = []
        for _ in range(8):
            work()
            made.append(token.clone())
        found.append((torch.cat(made), get_state(model)))
    assert torch.equal(found[0][0], found[1][0])
    for path, state in found[0][1].items():
        torch.testing.assert_close(state, found[1][1][path], atol=1e-5, rtol=1e-5)


@on_gpu
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["token", "multi", "scalar"])
def test_a_step_does_not_wait_for_the_device(name: str, masked: bool) -> None:
    memory, x = memory_of(CONFIGS[name]).cuda(), torch.randn(2, 1, 9, device="cuda")
    mask = torch.tensor([[True], [False]], device="cuda") if masked else None
    memory.step(x, mask, None, True)  # the kernel is compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        for write in (True, False):
            memory.step(x, mask, None, write)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_generate_compiles_its_decode_steps_as_one_graph() -> None:
    model = tiny(CONFIGS["token"])
    ids, mask = padded(2, 8)
    wanted = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    state = get_state(model)
    reset_state(model)
    torch._dynamo.reset()
    how = CompileConfig(fullgraph=True, backend="aot_eager", mode=None)
    how._compile_all_devices = True
    config = GenerationConfig(
        max_new_tokens=6, do_sample=False, cache_implementation="static", compile_config=how, pad_token_id=0
    )
    torch._dynamo.utils.counters.clear()
    assert torch.equal(model.generate(ids, attention_mask=mask, generation_config=config), wanted)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    for path, value in get_state(model).items():
        torch.testing.assert_close(value, state[path], atol=1e-5, rtol=1e-5)


def test_naive_and_fast_forms_decode_alike() -> None:
    model, ids = tiny(CONFIGS["multi"]), tokens(1, 8)
    found = []
    for form in ("chunked", "naive"):
        use_form(model, form)
        reset_state(model)
        found.append((model.generate(ids, max_new_tokens=10, do_sample=False), get_state(model)))
    assert torch.equal(found[0][0], found[1][0])
    for path, state in found[0][1].items():
        torch.testing.assert_close(state, found[1][1][path], atol=1e-5, rtol=1e-5)
