"""Tasks of EleutherAI's lm-evaluation-harness as tasks of ours."""
