"""x"""
import pyarrow.csv
import pyarrow.parquet
import engine.commands
