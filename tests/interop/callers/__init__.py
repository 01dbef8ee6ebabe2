"""Programs that call sendmail, and what each of them has of it: docs/callers.md is made here.

`table.py` has a row for each; `people.py`, `languages.py` and `system.py` run the real ones, `recorded.py` repeats the
calls of those that are not to be had; `desk.py` is where they sit, `trial.py` gives the marks, `page.py` is the page.
"""
