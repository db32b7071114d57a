"""Tables and plot style: presentation of what was computed elsewhere, no computation."""

from hvp_patching.reporting.files import ReportError, write_text
from hvp_patching.reporting.provenance import Provenance, collect_provenance
from hvp_patching.reporting.published import load_published
from hvp_patching.reporting.table1 import table1_frame, write_table1
from hvp_patching.reporting.table2 import table2_frame, write_table2
from hvp_patching.reporting.table5 import table5_frame, write_table5

__all__ = [
    "Provenance",
    "ReportError",
    "collect_provenance",
    "load_published",
    "table1_frame",
    "table2_frame",
    "table5_frame",
    "write_table1",
    "write_table2",
    "write_table5",
    "write_text",
]
