"""MemoryBank (Zhong et al. 2023, arXiv 2305.10250): dated turns, summaries, dense retrieval, forgetting."""
