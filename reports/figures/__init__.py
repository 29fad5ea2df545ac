"""Figures made from tables; nothing here touches a model. Needs the `reports` extra.

Each figure is a function of a `Table` and a `Style`, in a module of its own.
"""
