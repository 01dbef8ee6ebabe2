"""The customer's end of the line: ETRN and ATRN."""
