"""The line ends' loss: which tokens are a line, which words it counts, and that it can be learnt."""

import copy

import torch
from deltamem_eval.tasks.embedded.gist import Gist, content_tokens, lines_of
from deltamem_eval.tasks.embedded.ladder import IGNORED
from deltamem_eval.tasks.embedded.pretrain import new_model
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
NEWLINE = TOKENIZER.encode("\n")[0]


def drawn(*parts: tuple[str, bool]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of texts, each learnt or not."""
    ids, labels = [], []
    for text, learnt in parts:
        tokens = TOKENIZER.encode(text)
        ids += tokens
        labels += tokens if learnt else [IGNORED] * len(tokens)
    return torch.tensor([ids]), torch.tensor([labels])


def test_a_line_ends_at_its_newline_and_a_question_before_its_answer() -> None:
    ids, labels = drawn((" today Ada\n also Amos\n", False), ("question : Ada", False), (" Amos\n", True))
    numbers, ends = lines_of(ids, labels, NEWLINE)
    words = [TOKENIZER.decode(token) for token in ids[0]]
    assert [word for word, end in zip(words, ends[0], strict=True) if end] == ["\n", "\n", " Ada", "\n"]
    assert numbers[0].diff().tolist() == ends[0, :-1].long().tolist()


def ends_of(ids: torch.Tensor, labels: torch.Tensor) -> list[list[int]]:
    """The naive reading of lines_of's second part."""
    found = []
    for row in range(len(ids)):
        for at in range(ids.shape[1]):
            starts = at + 1 < ids.shape[1] and labels[row, at + 1] != IGNORED and labels[row, at] == IGNORED
            if NEWLINE in ids[row] and (ids[row, at] == NEWLINE or starts):
                found.append([row, at])
    return found


def test_rows_share_no_line_and_a_row_without_newline_has_none() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (5, 33), generator=generator)
    ids[ids == NEWLINE] = NEWLINE + 1
    ids[0, 7] = ids[2, 11] = ids[2, 32] = ids[4, 0] = NEWLINE
    labels = torch.where(torch.rand(5, 33, generator=generator) < 0.2, ids, torch.tensor(IGNORED))
    numbers, ends = lines_of(ids, labels, NEWLINE)
    seen = [set(row.tolist()) for row in numbers]
    assert all(not seen[a] & seen[b] for a in range(5) for b in range(a))
    assert ends.nonzero().tolist() == ends_of(ids, labels)


def test_content_words_are_the_world_and_not_its_wording() -> None:
    content = content_tokens(TOKENIZER)
    assert content[TOKENIZER.encode(" Ada")[0]]
    assert not content[TOKENIZER.encode(" the")[0]]
    assert not content[NEWLINE]


def test_the_loss_falls_on_the_same_lines_and_hooks_change_no_output() -> None:
    torch.manual_seed(0)
    model = new_model(TOKENIZER)
    plain = copy.deepcopy(model)
    gist = Gist(model, TOKENIZER)
    ids, labels = drawn(
        (" today Ada likes\n also Amos\n", False), ("question : Ada", False), (" Amos\n", True)
    )
    assert torch.equal(model(ids).logits, plain(ids).logits)
    optimiser = torch.optim.AdamW(gist.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        model(ids)
        losses.append(gist.loss(ids, labels))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.1
    assert losses[0] > 1
