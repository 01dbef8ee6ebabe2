"""Every way one smart host can behave, before every way the next one can."""
