"""The service's audit log, read back: how much was asked of which model, how quickly it answered, and what.

In: log folders or files, rotated and compressed ones, too. Out: ``Summary``, and a page with its pictures. Neither the
service nor matplotlib is needed.
The one function: ``summarise(records(find_logs(paths)))``.
"""

from medrail.audit.logs import Span, find_logs, records
from medrail.audit.page import write_summary
from medrail.audit.summary import Summary, summarise

__all__ = ["Span", "Summary", "find_logs", "records", "summarise", "write_summary"]
