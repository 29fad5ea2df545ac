"""The page: tables, figures and every sample of some runs, in a file that needs no network."""

from deltamem_eval.reports.page.document import PageFigure, write_page

__all__ = ["PageFigure", "write_page"]
