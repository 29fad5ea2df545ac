"""What `deltamem-eval train` can train, by method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.interface import Episode
    from deltamem_eval.methods.memgen.config import Adapters
    from deltamem_eval.methods.mlp_memory.config import Distillation
    from deltamem_eval.methods.training import Report, TrainSettings

    Trainer = Callable[[Backbone, Sequence[Episode], TrainSettings, Path, Report], None]

DELTA_MEM = ("token-write", "sequence-write", "multi-write")


def _delta_mem(
    policy: str,
    backbone: Backbone,
    episodes: Sequence[Episode],
    settings: TrainSettings,
    out: Path,
    report: Report,
) -> None:
    from deltamem_eval.methods.delta_mem.method import POLICIES
    from deltamem_eval.methods.delta_mem.train import train
    from deltamem_eval.methods.examples import examples_from_rows
    from deltamem_eval.methods.training import Fixed

    source = Fixed(examples_from_rows(backbone, episodes), settings.batch, settings.seed)
    train(backbone.model, POLICIES[policy].adapter_config(), source, settings, out, report)


def memgen(
    backbone: Backbone,
    episodes: Sequence[Episode],
    settings: TrainSettings,
    out: Path,
    report: Report,
    adapters: Adapters | None = None,
) -> None:
    """A weaver whose adapters are as told. Raises UserError for modules that the backbone does not have."""
    from deltamem_eval.methods.examples import examples_from_rows
    from deltamem_eval.methods.memgen.config import Adapters, MemGenConfig
    from deltamem_eval.methods.memgen.train import train_memgen
    from deltamem_eval.methods.training import Fixed

    how = adapters or Adapters()
    config = MemGenConfig(hidden=backbone.shape().hidden, rank=how.rank, targets=how.targets)
    examples = examples_from_rows(backbone, episodes, in_prompt=True, most=settings.write_length)
    source = Fixed(examples, settings.batch, settings.seed)
    train_memgen(backbone.model, backbone.decode, config, source, settings, out, report)


def _context2lora(
    backbone: Backbone, episodes: Sequence[Episode], settings: TrainSettings, out: Path, report: Report
) -> None:
    from deltamem_eval.methods.context2lora.method import Context2Lora
    from deltamem_eval.methods.context2lora.train import train_static
    from deltamem_eval.methods.examples import examples_from_rows
    from deltamem_eval.methods.training import Fixed

    rank, targets = Context2Lora.defaults["rank"], tuple(Context2Lora.defaults["targets"].split(","))
    examples = examples_from_rows(backbone, episodes, in_prompt=True, most=settings.write_length)
    source = Fixed(examples, settings.batch, settings.seed)
    train_static(backbone.model, rank, targets, source, settings, out, report)


HELD_OUT = 10  # one episode in so many is kept to tune MLP Memory's λ on


def mlp_memory(
    backbone: Backbone,
    episodes: Sequence[Episode],
    settings: TrainSettings,
    out: Path,
    report: Report,
    how: Distillation | None = None,
) -> None:
    """The corpus is every context once, cut as the other methods' are, and every question with its answer.

    λ is tuned on episodes that are not in it; where there are too few to keep any, the backbone's notices say
    so and λ stays as it was made.
    """
    from deltamem_eval.methods.examples import examples_from_rows
    from deltamem_eval.methods.mlp_memory.config import Distillation, MlpConfig, layer_at
    from deltamem_eval.methods.mlp_memory.train import train_mlp, tune_weight

    shape, how = backbone.shape(), how or Distillation()
    blocks = how.blocks or shape.layers
    layer = layer_at(shape.layers, how.depth)
    config = MlpConfig(shape.hidden, shape.intermediate, blocks, shape.vocab, layer)
    kept = [episode for number, episode in enumerate(episodes, 1) if number % HELD_OUT]
    train_mlp(
        backbone.model,
        _corpus(backbone, kept, settings.write_length),
        config,
        settings,
        out,
        report,
        tokens=how.tokens,
        temperature=how.temperature,
        alpha=how.alpha,
        neighbours=how.neighbours,
    )
    held_out = [episode for episode in episodes[HELD_OUT - 1 :: HELD_OUT] if episode.queries]
    if held_out:
        examples = examples_from_rows(backbone, held_out, in_prompt=True, most=settings.write_length)
        tune_weight(backbone.model, out, examples)
        return
    backbone.notices.append(
        f"mlp-memory: λ was not tuned and stays {config.weight}: one episode in {HELD_OUT} is kept aside for "
        f"that, and {len(episodes)} leave none with a question; give more, or set it with --option weight=λ"
    )


def _corpus(backbone: Backbone, episodes: Sequence[Episode], most: int) -> list[tuple[int, ...]]:
    """Token ids of every context, its last `most`, and of every question with its answer."""
    from deltamem_eval.methods.examples import examples_from_rows

    texts: list[tuple[int, ...]] = []
    for example in examples_from_rows(backbone, episodes):
        texts.append(tuple(token for message in example.messages for token in message)[-most:])
        texts += [(*prompt, *answer) for prompt, answer in example.questions]
    return texts


TRAINERS: Mapping[str, Trainer] = {
    **{policy: partial(_delta_mem, policy) for policy in DELTA_MEM},
    "memgen": memgen,
    "context2lora": _context2lora,
    "mlp-memory": mlp_memory,
}
