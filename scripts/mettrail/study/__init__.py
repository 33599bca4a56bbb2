"""The published methods, trained on one cohort and compared: the target `compare`.

`methods` says what they are, `cases` and `patches` what they are trained on, `fitting` how; what comes out are model
folders, which `predicting` runs as the pipeline does, and `page` puts side by side.
"""
