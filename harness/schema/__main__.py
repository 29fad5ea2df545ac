"""`python -m deltamem_eval.schema`: write the schemas again after a record has changed."""

from deltamem_eval.schema import FOLDER, published

for name, text in published().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
