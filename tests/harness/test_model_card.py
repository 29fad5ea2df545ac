"""The shipped model card is what the shipped logs and the recipe say."""

import shutil
from pathlib import Path

from deltamem_eval.backbone import embedded_folder
from deltamem_eval.make_embedded import CARD_SEED
from deltamem_eval.model_card import CARD, write_card
from deltamem_eval.tasks.embedded.pretrain import SEED


def test_the_shipped_card_is_what_the_shipped_logs_say(tmp_path: Path) -> None:
    shutil.copytree(embedded_folder(), tmp_path / "weights")
    shipped = (tmp_path / "weights" / CARD).read_text(encoding="utf-8")
    _, heading, scores = shipped.partition(f"## Scores on evaluation seed {CARD_SEED}\n\n")
    assert heading
    write_card(tmp_path / "weights", SEED, CARD_SEED, scores)
    assert (tmp_path / "weights" / CARD).read_text(encoding="utf-8") == shipped
    assert max(map(len, shipped.partition("| part |")[0].splitlines())) <= 110
