"""LoCoMo (Maharana et al. 2024, arXiv 2402.17753): questions on dialogues of many dated sessions."""
