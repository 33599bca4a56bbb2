"""Brain metastases over time: plain functions on arrays and tables. Nothing here knows of Snakemake."""

__version__ = "0.1.0"
