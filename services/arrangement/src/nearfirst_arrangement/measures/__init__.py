"""What is said of an order before it is trained on.

`measure` finds it out; `report_figure`, `curve_figure` and `table` show it.

Nothing is imported here: the API draws figures and has no torch.
"""
