"""Many patients: each for itself, resumed where the last run ended, in processes or on a cluster.

plan         what a person chose: how many at once, how much memory, which patients
run          run_batch: patients in, Steps and Outcomes out; the tables kept current
patient      one patient: claimed, looked at, analysed, saved; any error becomes a sentence
fingerprint  what a result was made from, so that only what is the same is skipped
claim        one patient, one process: locks, and what dead processes left
workers      processes on this machine · cluster: Dask · line: the order in which patients are taken
outcome      what became of a patient, and what to do · tables: summary.csv, failures.csv, index.html
"""

from napari_convlstm_tumor.batch.outcome import SUMMARY_COLUMNS, Outcome
from napari_convlstm_tumor.batch.plan import BatchPlan
from napari_convlstm_tumor.batch.run import run_batch
from napari_convlstm_tumor.batch.tables import SUMMARY_FILE

__all__ = ["SUMMARY_COLUMNS", "SUMMARY_FILE", "BatchPlan", "Outcome", "run_batch"]
