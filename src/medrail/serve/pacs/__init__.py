"""The hospital's archive (PACS) by DICOMweb: what lies there, one series here, the answer back into its study.

In: ``PacsConfig`` (where it is, what is too much) and who the service is, from the environment or a file.
Out: ``Pacs``, whose calls list (QIDO-RS), pull (WADO-RS) and store (STOW-RS); ``attach`` adds the routes /v1/pacs/... .
Only the configured address is ever called. UIDs, names and the PACS's own words never reach a log or an error.
"""

from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.routes import attach

__all__ = ["Pacs", "attach"]
