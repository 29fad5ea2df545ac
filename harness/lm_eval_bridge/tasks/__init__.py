"""Tasks of ours in lm-eval's YAML form; this folder is what `--include_path` wants."""
