"""HotpotQA (Yang et al. 2018, arXiv 1809.09600), distractor setting: questions on ten paragraphs each."""
